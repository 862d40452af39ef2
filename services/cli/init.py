"""A first start: the data folder, the secrets, the databases and a staff login, whichever of them is missing."""

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from services.cli.prepared import is_prepared, remember
from services.cli.settings import CliSettings
from services.cli.turn import INIT_LOCK, turn
from shared.settings import CannotStart, Settings, SettingsError, exit_with, load, make_secret_file, secret_file

SECRET_BYTES = 48

EXIT_FAILED = 1


class NotPrepared(Exception):  # noqa: N818
    """The databases could not be brought into shape; the message is the one line to print."""


@dataclass(frozen=True)
class StaffLogin:
    """The login that was just made; nothing keeps its password but the person who reads it."""

    email: str
    password: str


async def first_start(settings: CliSettings) -> StaffLogin | None:
    """Make whatever is missing; the staff login if one was made.

    Safe to do again and in two processes at once. Raises `SettingsError` and `NotPrepared`.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with turn(settings.data_dir / INIT_LOCK):
            return await _make_missing(settings)
    except OSError as error:
        raise SettingsError(f"LEADS_DATA_DIR: {error.filename or settings.data_dir}: {error.strerror}.") from None


async def run(settings: CliSettings) -> int:
    """`leads init`: the exit status."""
    try:
        login = await first_start(settings)
    except SettingsError as error:
        exit_with(error)
    except NotPrepared as error:
        sys.stderr.write(f"leads: {error}\n")
        return EXIT_FAILED
    print(f"Leads is set up in {settings.data_dir.resolve()}.")
    if login is not None:
        print(login_line(settings, login))
    return 0


def login_line(settings: CliSettings, login: StaffLogin) -> str:
    """The login that was just made; a password is shown only to who does not know it yet."""
    if settings.admin_password is not None:
        return f"staff login: {login.email} (password as set by LEADS_ADMIN_PASSWORD)"
    return f"staff login: {login.email}  password: {login.password}  (shown only this once)"


async def _make_missing(settings: CliSettings) -> StaffLogin | None:
    make_secret(settings.data_dir, "jwt_secret", settings.jwt_secret)
    make_secret(settings.data_dir, "service_secret", settings.service_secret)
    if is_prepared(settings):
        return None
    login = await prepare_databases(api_dir=settings.data_dir, notifier_dir=settings.data_dir)
    if settings.is_embedded:
        remember(settings)
    return login


def make_secret(data_dir: Path, name: str, given: SecretStr | None) -> str:
    """The secret `name`: as given, or as kept in `data_dir`, where it is made if it is missing.

    Raises `SettingsError`: a short or unreadable one is said here, once, and not by every room.
    """
    if given is None:
        make_secret_file(secret_file(data_dir, name), secrets.token_urlsafe(SECRET_BYTES))
    return load(Settings, data_dir=data_dir).secret(name, given)


async def prepare_databases(*, api_dir: Path, notifier_dir: Path) -> StaffLogin | None:
    """Bring the databases up to date, each in its room's data folder; the staff login if one was made.

    Raises `SettingsError` and `NotPrepared`.
    """
    # Loaded here: these bring the whole database machinery with them, which a second start does not need.
    from sqlalchemy.exc import SQLAlchemyError

    from services.api import setup as api
    from services.api.settings import ApiSettings
    from services.notifier import setup as notifier
    from services.notifier.settings import NotifierSettings
    from shared.problems import Problem

    try:
        login = await api.prepare(load(ApiSettings, data_dir=api_dir))
        await notifier.prepare(load(NotifierSettings, data_dir=notifier_dir))
    except SettingsError:
        raise
    except (SQLAlchemyError, CannotStart, Problem, OSError) as error:  # OSError: a database server that is away
        reason = str(error).splitlines()[0]
        raise NotPrepared(f"the databases could not be prepared: {reason}") from error
    return StaffLogin(login.email, login.password) if login is not None else None
