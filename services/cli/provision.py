"""`leads provision`: a first start where each room has a volume of its own, as in docker-compose.yml.

Every room gets a data folder with those secrets only that it needs; RabbitMQ gets its users. Whatever is there already
stays. The passwords of RabbitMQ's users exist twice: in the broker URL of their room, and hashed in RabbitMQ's own.
"""

import secrets
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from services.api.settings import ApiSettings
from services.cli import broker_users
from services.cli.broker_users import BrokerUser
from services.cli.init import EXIT_FAILED, NotPrepared, login_line, make_secret, prepare_databases
from services.cli.settings import CliSettings
from services.notifier.settings import NotifierSettings
from services.storage.settings import StorageSettings
from shared.settings import SettingsError, exit_with, load, make_secret_file, secret_file

BROKER_HOST = "rabbitmq"
"""How the rooms find RabbitMQ: the name of its service."""

_READ_BY = {"jwt_secret": ("api",), "service_secret": ("api", "storage")}
_BROKER_USERS = {"api": broker_users.API, "notifier": broker_users.NOTIFIER, "ops": broker_users.OPS}


async def run(settings: CliSettings, volumes: Path) -> int:
    """The exit status: 0, 1 when a database cannot be used, 78 when a setting or a volume cannot."""
    try:
        _check_rooms()
        _provide_secrets(settings, volumes)
        login = await prepare_databases(api_dir=volumes / "api", notifier_dir=volumes / "notifier")
    except OSError as error:
        exit_with(SettingsError(f"the volume at {error.filename or volumes} cannot be used: {error.strerror}."))
    except SettingsError as error:
        exit_with(error)
    except NotPrepared as error:
        sys.stderr.write(f"leads: {error}\n")
        return EXIT_FAILED
    print("Leads is set up.")
    if login is not None:
        print(login_line(settings, login))
    elif settings.admin_password is not None:
        print("There are staff logins: LEADS_ADMIN_PASSWORD changes none of them. `leads users passwd EMAIL` does.")
    return 0


def _check_rooms() -> None:
    """Refuse what a room could not start with, before a room that runs is replaced. Raises `SettingsError`."""
    complaints = []
    for room in (ApiSettings, StorageSettings, NotifierSettings):
        try:
            load(room)
        except SettingsError as error:
            complaints.append(str(error))
    if complaints:
        raise SettingsError(" ".join(dict.fromkeys(complaints)))


def _provide_secrets(settings: CliSettings, volumes: Path) -> None:
    """Make whatever is missing. Raises `OSError`, `SettingsError`."""
    for name, given in (("jwt_secret", settings.jwt_secret), ("service_secret", settings.service_secret)):
        first, *others = (volumes / room for room in _READ_BY[name])
        value = make_secret(first, name, given)
        for other in others:
            _copy(secret_file(other, name), value)
    passwords = {user: _broker_password(volumes / room, user) for room, user in _BROKER_USERS.items()}
    passwords[broker_users.ADMIN] = _kept(volumes / "rabbitmq" / "admin_password")
    _publish(volumes / "grafana" / "admin_password", _kept(volumes / "ops" / "grafana_admin_password"))
    _publish(volumes / "rabbitmq" / "definitions.json", broker_users.definitions(passwords))


def _copy(file: Path, value: str) -> None:
    """What two rooms share must be the same: the first one's counts, whatever the other's volume held."""
    if not make_secret_file(file, value) and file.read_text().strip() != value:
        file.unlink()
        make_secret_file(file, value)


def _broker_password(folder: Path, user: BrokerUser) -> str:
    """The password in the room's broker URL, which is made where there is none."""
    file = secret_file(folder, "broker_url")
    make_secret_file(file, broker_users.url(user, _new_password(), BROKER_HOST))
    return unquote(urlsplit(file.read_text().strip()).password or "")


def _kept(file: Path) -> str:
    """The password in `file`, which is made where there is none."""
    make_secret_file(file, _new_password())
    return file.read_text().strip()


def _new_password() -> str:
    return secrets.token_urlsafe(24)


def _publish(file: Path, text: str) -> None:
    """For the user of another image to read: nobody else but that one mounts its volume."""
    temporary = file.with_suffix(".tmp")
    temporary.write_text(text + "\n")
    temporary.chmod(0o644)
    temporary.replace(file)
