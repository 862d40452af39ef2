"""A database in a server: reached, let in, and of a version that this Leads knows. Only reads.

What makes a server safe, each kind says in its own way: `postgresql.py`, `mysql.py`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import inspect, text
from sqlalchemy.orm import Session

from services.cli.doctor import mysql, postgresql
from services.cli.doctor.kept import CannotAsk, Kept, schema_faults
from services.cli.doctor.report import Finding, failed, ok
from shared.database import Database
from shared.problems import Problem
from shared.schema import VERSION_TABLE, newest_version
from shared.settings import SettingsError
from shared.troubles import trouble_of


@dataclass(frozen=True)
class _Looked:
    """What one look at the database found. `server` names the program and its version."""

    server: str
    tables: frozenset[str]
    version: str | None
    faults: Sequence[Finding]


async def examine(one: Kept) -> list[Finding]:
    """One line if all is well, else one for each fault."""
    try:
        async with _opened(one) as database:
            looked = await database.read(lambda session: _look(session, one))
    except SettingsError as error:
        return [failed("database", str(error), f"Correct {one.setting}.")]
    except Problem as problem:
        return [_unreachable(one, database.name, problem)]
    found = [*schema_faults(one, database.name, looked.tables, looked.version), *looked.faults]
    version = f"{looked.server}, of the newest schema {newest_version(one.migrations)}"
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


def _look(session: Session, one: Kept) -> _Looked:
    kind = mysql if one.is_mysql else postgresql
    tables = frozenset(inspect(session.connection()).get_table_names())
    noted = text(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 - a constant
    version = session.execute(noted).scalar() if VERSION_TABLE in tables else None
    return _Looked(kind.server(session), tables, version, list(kind.faults(session, one)))


def _unreachable(one: Kept, name: str, problem: Problem) -> Finding:
    cause = problem.__cause__ or problem
    trouble = trouble_of(cause)
    told = trouble.words if trouble else f"could not be read ({type(cause).__name__})"
    return failed("database", f"{name} {told}.", f"Mend it, or correct {one.setting}.")
