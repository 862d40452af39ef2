"""The schema of a room's database: which version it has, and how it is brought to the newest one.

Alembic's migrations do the work; their files are named by revision, in order. It is loaded only where there is work to
do: it takes 7 MiB that an up-to-date room has no use for.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import DBAPIError

from shared.dialect import MYSQL, commits_each_step, migrating, own_database, unfit
from shared.settings import EX_TEMPFAIL, CannotStart
from shared.troubles import trouble_of

VERSION_TABLE = "alembic_version"

UNFINISHED_TABLE = "alembic_version_unfinished"
MOVED_TABLE = "alembic_version_moved"
"""What that table is called while `leads migrate` fills a database, and in one that it has moved. Nothing that works on
rows finds a version then, and starts: also no Leads that never heard of these names."""

log = structlog.get_logger()


class DatabaseUnfit(CannotStart):
    """This Leads cannot work with the database as it is; the text says what to do. To try again does not help."""


class SchemaTooNew(DatabaseUnfit):
    """The database was written by a newer Leads than this one."""


class DatabaseBroken(CannotStart):
    """The database cannot be used just now: to try again may help."""

    exit_status = EX_TEMPFAIL


class SchemaState(StrEnum):
    """How a database's schema stands to the newest one that this Leads knows."""

    EMPTY = "empty"
    OLDER = "older"
    NEWEST = "newest"
    UNKNOWN = "unknown"
    """Written by a Leads that knows more than this one."""


def newest_version(versions: Path) -> str:
    """The revision that the last migration leads to."""
    return max(_known(versions))


def compare(version: str | None, versions: Path) -> SchemaState:
    """How `version`, as Alembic noted it, stands to the migrations in `versions`."""
    if version is None:
        return SchemaState.EMPTY
    if version not in _known(versions):
        return SchemaState.UNKNOWN
    return SchemaState.NEWEST if version == newest_version(versions) else SchemaState.OLDER


def too_new(version: str | None, versions: Path) -> str:
    """What to say of a version that this Leads does not know."""
    return (
        f"was written by a newer version of Leads (schema {version}; this one knows up to {newest_version(versions)}): "
        "start that version, or restore a backup"
    )


def why_no_version(tables: Collection[str]) -> tuple[str, str]:
    """What to say of a database with these tables and without a version, and what to do about it."""
    if MOVED_TABLE in tables:
        return "was moved to PostgreSQL by `leads migrate`", "Name that database instead."
    if UNFINISHED_TABLE in tables:
        return (
            "is not whole yet: `leads migrate` fills it",
            "Finish that: `leads migrate --finish`, with Leads stopped and the settings of before.",
        )
    return "has tables but no version: it was not made by Leads", "Name another database, or restore a backup."


def bring_up_to_date(versions: Path, connection: Connection, where: str) -> None:
    """Bring the schema to the newest version. `where` names the database's setting and itself.

    It is one transaction, or where the engine commits each step one that goes on where it was cut. Several that start
    at once take turns. Raises `SchemaTooNew` and `DatabaseUnfit`, each one line for whoever can act, and SQLAlchemy's
    errors.
    """
    with migrating(connection):
        if fault := unfit(connection):
            raise DatabaseUnfit(f"{where} {fault.why}: {fault.mend}.")
        version = _current_version(connection)
        state = compare(version, versions)
        if state is SchemaState.UNKNOWN:
            raise SchemaTooNew(f"{where} {too_new(version, versions)}.{own_database(connection)}")
        tables = inspect(connection).get_table_names() if state is SchemaState.EMPTY else []
        was_cut = VERSION_TABLE in tables and commits_each_step(connection)
        if tables and not was_cut:
            raise DatabaseUnfit(f"{where} {'. '.join(why_no_version(tables))}")
        if state is not SchemaState.NEWEST:
            _upgrade(connection, versions)
        if state is SchemaState.OLDER:
            log.info("database brought up to date", was=version, now=newest_version(versions))


@contextmanager
def told_in_words(where: str) -> Iterator[None]:
    """An error that people can do something about becomes `DatabaseUnfit` or `DatabaseBroken`, a line that says what.

    Others are a migration that is wrong, and stay as they are.
    """
    try:
        yield
    except (DBAPIError, OSError) as error:
        trouble = trouble_of(error)
        if trouble is None:
            raise
        kind = DatabaseUnfit if trouble.is_lasting else DatabaseBroken
        raise kind(f"{where} {trouble.words}.") from error


def _known(versions: Path) -> frozenset[str]:
    return frozenset(path.stem for path in versions.glob("*.py"))


def _current_version(connection: Connection) -> str | None:
    """What Alembic noted, looked up without it."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()  # noqa: S608 - a constant


def _upgrade(connection: Connection, versions: Path) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    if connection.dialect.name == MYSQL:
        import shared.mysql_migrations  # noqa: F401 - Alembic finds it by its being there

    script = ScriptDirectory(str(versions.parent), version_locations=[str(versions)])

    def to_head(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", revision)  # noqa: SLF001 - as Alembic's own command.upgrade does

    with EnvironmentContext(Config(), script, fn=to_head) as environment:
        environment.configure(connection=connection)
        environment.run_migrations()
