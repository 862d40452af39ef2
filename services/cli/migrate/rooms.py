"""The rooms whose databases move: where each has its file, and which tables; and how a failure is said."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Table
from sqlalchemy.exc import DBAPIError
from sqlmodel import SQLModel

from services.api.resume_search import index
from services.api.settings import MIGRATIONS as API_MIGRATIONS
from services.api.settings import ApiSettings
from services.api.tables import AuditRun, IdempotencyKey, Lead, RateCount, User
from services.cli.migrate.rows import plain
from services.notifier.settings import MIGRATIONS as NOTIFIER_MIGRATIONS
from services.notifier.settings import NotifierSettings
from services.notifier.tables import Email
from shared.database import table_of
from shared.outbox import OutboxEvent
from shared.postgresql import SCHEMAS
from shared.problems import Problem
from shared.settings import SettingsError
from shared.sqlite import file_of
from shared.troubles import trouble_of

API_TABLES: tuple[type[SQLModel], ...] = (Lead, User, AuditRun, OutboxEvent, IdempotencyKey, RateCount)
NOTIFIER_TABLES: tuple[type[SQLModel], ...] = (Email,)
LEFT_BEHIND = index.TABLES
"""Tables that are made anew from the others and the resumes."""

FORGETTING: tuple[type[SQLModel], ...] = (OutboxEvent, IdempotencyKey, RateCount)
"""Rows of these go when they are old. Of all others none ever goes: one that only the target has is somebody else's."""


_REFUSED_VALUE = re.compile(r"invalid input for query argument .*\((.*)\)", re.DOTALL)


class CannotMigrate(Exception):  # noqa: N818
    """What was asked for was not done; the message is the one line to print."""


@dataclass(frozen=True)
class Room:
    """A room with a database of its own in a file. `setting` is what names it, before and after."""

    setting: str
    file: Path
    migrations: Path
    tables: tuple[Table, ...]

    @property
    def schema(self) -> str:
        """Of PostgreSQL: where its tables go."""
        return SCHEMAS[self.setting]


def rooms_on_sqlite(api: ApiSettings, notifier: NotifierSettings) -> list[Room]:
    """Raises `SettingsError` when there is none."""
    found = [
        Room(setting, file, migrations, tuple(plain(table_of(one)) for one in classes))
        for setting, url, migrations, classes in (
            ("LEADS_DATABASE_URL", api.resolved_database_url, API_MIGRATIONS, API_TABLES),
            ("LEADS_NOTIFIER_DATABASE_URL", notifier.resolved_database_url, NOTIFIER_MIGRATIONS, NOTIFIER_TABLES),
        )
        if (file := file_of(url)) is not None
    ]
    if not found:
        raise SettingsError(
            f"neither {' nor '.join(SCHEMAS)} names a SQLite file: there is nothing to move. "
            "To finish a move, leave them as they were before it."
        )
    return found


def forgets(table: Table) -> bool:
    """Whether rows go from this table when they are old."""
    return table.name in {one.__tablename__ for one in FORGETTING}


@contextmanager
def told(where: str) -> Iterator[None]:
    """Say in one line what is the matter with the database at `where`. Raises `CannotMigrate`."""
    try:
        yield
    except (Problem, DBAPIError) as error:  # a problem's words are for callers of the api: the cause stands behind it
        cause = error.__cause__ if isinstance(error, Problem) and error.__cause__ else error
        trouble = trouble_of(cause)
        raise CannotMigrate(f"{where} {trouble.words if trouble else _said(cause)}") from error


def _said(error: BaseException) -> str:
    """By the server, or by asyncpg of a value: SQLAlchemy has wrapped it twice."""
    wrapped = getattr(error, "orig", None) or error
    said = str(wrapped.__cause__ or wrapped)
    if refused := _REFUSED_VALUE.fullmatch(said):  # asyncpg's, with the value in it: that is somebody's data
        said = f"a value is none for its column ({refused[1]})"
    return f"cannot take it: {said}".splitlines()[0]
