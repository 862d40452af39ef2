"""A database in PostgreSQL: reached, let in, durable, writable, of a version that this Leads knows. Only reads."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import inspect, text
from sqlalchemy.orm import Session

from services.cli.doctor.kept import CannotAsk, Kept, schema_faults
from services.cli.doctor.report import Finding, failed, ok, warning
from shared.database import Database
from shared.postgresql import SCHEMAS
from shared.problems import Problem
from shared.schema import VERSION_TABLE, newest_version
from shared.settings import SettingsError
from shared.troubles import trouble_of

CONNECTIONS_OF_A_ROOM = 8
ROOMS_EXPECTED = 3
"""api, notifier, and a command such as `leads audit`."""

_DURABLE = ("fsync", "full_page_writes")


@dataclass(frozen=True)
class _Looked:
    """What one look at the database found."""

    server: str
    tables: frozenset[str]
    version: str | None
    off: tuple[str, ...]
    """Of the settings without which a crash loses what was answered, those that are off."""
    is_standby: bool
    may_write: bool
    connections: int


async def examine(one: Kept) -> list[Finding]:
    """One line if all is well, else one for each fault."""
    try:
        async with _opened(one) as database:
            looked = await database.read(lambda session: _look(session, SCHEMAS[one.setting]))
    except SettingsError as error:
        return [failed("database", str(error), f"Correct {one.setting}.")]
    except Problem as problem:
        return [_unreachable(one, database.name, problem)]
    found = [*schema_faults(one, database.name, looked.tables, looked.version), *_server_faults(one, looked)]
    version = f"PostgreSQL {looked.server}, of the newest schema {newest_version(one.migrations)}"
    return found or [ok("database", f"{database.name} is durable, {version}")]


async def ask(one: Kept, query: str) -> object | None:
    """The first value that `query` finds; None where its table is not there yet, or no row. Raises `CannotAsk`."""

    def look(session: Session) -> object | None:
        if not inspect(session.connection()).has_table(VERSION_TABLE):
            return None
        row = session.execute(text(query)).first()
        return row[0] if row else None

    try:
        async with _opened(one) as database:
            return await database.read(look)
    except (Problem, SettingsError) as error:
        raise CannotAsk from error


@asynccontextmanager
async def _opened(one: Kept) -> AsyncIterator[Database]:
    database = Database(one.url, setting=one.setting)
    try:
        yield database
    finally:
        await database.close()


def _look(session: Session, schema: str) -> _Looked:
    def value(query: str) -> object:
        return session.execute(text(query), {"schema": schema} if ":schema" in query else {}).scalar()

    tables = frozenset(inspect(session.connection()).get_table_names())
    may_create = "has_schema_privilege(n.oid, 'CREATE')"
    return _Looked(
        server=str(value("SHOW server_version")).split()[0],
        tables=tables,
        version=str(value(f"SELECT version_num FROM {VERSION_TABLE}")) if VERSION_TABLE in tables else None,  # noqa: S608
        off=tuple(name for name in _DURABLE if value(f"SHOW {name}") == "off"),
        is_standby=bool(value("SELECT pg_is_in_recovery()")),
        may_write=bool(
            value(
                f"SELECT coalesce((SELECT {may_create} FROM pg_namespace n WHERE nspname = :schema),"  # noqa: S608
                " has_database_privilege(current_database(), 'CREATE'))"
            )
        ),
        connections=int(str(value("SHOW max_connections"))),
    )


def _server_faults(one: Kept, looked: _Looked) -> Iterator[Finding]:
    for name in looked.off:
        yield failed(
            "database",
            f"{one.setting}: {name} is off: when that server crashes, leads are lost that were answered with 201.",
            f"ALTER SYSTEM SET {name} = on, then SELECT pg_reload_conf().",
        )
    if looked.is_standby:
        yield failed("database", f"{one.setting} leads to a standby, which may only be read.", "Name the primary.")
    elif not looked.may_write:
        schema = SCHEMAS[one.setting]
        mend = f"Make it the owner: CREATE SCHEMA IF NOT EXISTS {schema}; ALTER SCHEMA {schema} OWNER TO that_user"
        yield failed("database", f"{one.setting}: the user of the URL may not make tables in schema {schema}.", mend)
    needed = ROOMS_EXPECTED * CONNECTIONS_OF_A_ROOM
    if looked.connections < needed:
        yield warning(
            "database",
            f"{one.setting}: that server takes {looked.connections} connections; each room opens up to "
            f"{CONNECTIONS_OF_A_ROOM}.",
            f"Raise max_connections to {needed} or more.",
        )


def _unreachable(one: Kept, name: str, problem: Problem) -> Finding:
    cause = problem.__cause__ or problem
    trouble = trouble_of(cause)
    told = trouble.words if trouble else f"could not be read ({type(cause).__name__})"
    return failed("database", f"{name} {told}.", f"Mend it, or correct {one.setting}.")
