"""The databases: sound, of a version that this Leads knows, and with somebody who may sign in.

A file is opened for reading and by itself: `shared.database` would make what is missing. Those in servers: `server.py`.
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from services.api.settings import MIGRATIONS as API_MIGRATIONS
from services.cli.doctor import server
from services.cli.doctor.kept import CannotAsk, Kept, schema_faults
from services.cli.doctor.patient import Patient
from services.cli.doctor.report import Finding, failed, ok, skipped, warning
from services.notifier.settings import MIGRATIONS as NOTIFIER_MIGRATIONS
from shared.engines.turns import OFFERED
from shared.postgresql import SCHEMES as POSTGRESQL_SCHEMES
from shared.schema import VERSION_TABLE, newest_version
from shared.sqlite import file_of, open_for_reading, telling

QUICK_CHECK_SECONDS = 3.0
"""A large database takes longer than anybody waits: what was not looked at by then is said."""

_STEPS = 10_000
"""SQLite's own steps between two looks at the clock: some milliseconds."""


def kept(patient: Patient) -> Iterator[Kept]:
    """The databases of the rooms that are looked at."""
    if patient.api is not None:
        url = patient.api.resolved_database_url
        yield Kept("LEADS_DATABASE_URL", url, API_MIGRATIONS, "SELECT max(id) FROM leads")
    if patient.notifier is not None:
        url = patient.notifier.resolved_database_url
        yield Kept("LEADS_NOTIFIER_DATABASE_URL", url, NOTIFIER_MIGRATIONS, "SELECT max(id) FROM emails")


async def check_databases(patient: Patient) -> list[Finding]:
    """One line for each that is well, else one for each fault."""
    if not patient.loaded:
        return [skipped("database", "the settings come first")]
    databases = list(kept(patient))
    examined = await asyncio.gather(*(_examine(one) for one in databases))
    return [*_shared(databases), *(finding for findings in examined for finding in findings)]


def _shared(databases: Sequence[Kept]) -> Iterator[Finding]:
    """PostgreSQL gives each room a schema of its own; elsewhere one would find the other's tables."""
    places = [_place(one.url) for one in databases if not one.url.startswith(POSTGRESQL_SCHEMES)]
    if len(set(places)) < len(places):
        settings = " and ".join(one.setting for one in databases)
        yield failed("database", f"{settings} name one database: each needs its own.", "Name another for one of them.")


def _place(url: str) -> object:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # which is said by whoever opens it
        return url
    socket = parsed.query.get("unix_socket")
    return socket or ((parsed.host or "localhost").lower(), parsed.port or 3306), parsed.database


async def check_staff(patient: Patient) -> list[Finding]:
    """Somebody must be able to sign in."""
    one = next(iter(kept(patient)), None)
    if patient.api is None or one is None:
        return []
    try:
        found = await ask(one, "SELECT count(*) FROM users WHERE disabled_at IS NULL")
    except CannotAsk:
        return [skipped("staff", "the database comes first")]
    if found is None:
        return [skipped("staff", "there is no database yet: `leads init` makes it, and the first login")]
    if not found:
        return [failed("staff", "Nobody may sign in: no user is enabled.", "leads users add YOU@YOUR-COMPANY.COM")]
    return [ok("staff", f"{found} may sign in")]


async def ask(one: Kept, query: str) -> object | None:
    """The first value that `query` finds; None where there is no such database yet, or no row. Raises `CannotAsk`."""
    if one.is_server:
        return await server.ask(one, query)
    return await asyncio.to_thread(_ask_file, one.url, query)


def _ask_file(url: str, query: str) -> object | None:
    path = file_of(url)
    if path is None or not path.exists():
        return None
    try:
        with closing(open_for_reading(path)) as connection:
            row = connection.execute(query).fetchone()
    except sqlite3.Error as error:
        raise CannotAsk from error
    return row[0] if row else None


async def _examine(one: Kept) -> list[Finding]:
    if one.is_server:
        return await server.examine(one)
    return await asyncio.to_thread(lambda: list(_examine_file(one)))


def _examine_file(one: Kept) -> Iterator[Finding]:
    path = file_of(one.url)
    if path is None:
        mend = f"Set {one.setting} to one of these, or leave it out."
        yield failed("database", f"{one.setting} must be {OFFERED}: no other is offered.", mend)
        return
    if not path.exists():
        yield skipped("database", f"{path} is not there yet: the first start makes it")
        return
    where = f"{one.setting}: {path}"
    try:
        with closing(open_for_reading(path)) as connection:
            yield from _look_inside(connection, one, where)
    except sqlite3.Error as error:
        yield failed(
            "database", f"{where} {telling(error)}.", f"Mend the file, restore a backup, or set {one.setting}."
        )


def _look_inside(connection: sqlite3.Connection, one: Kept, where: str) -> Iterator[Finding]:
    faults = [*_schema_faults(connection, one, where), *_file_faults(connection, where)]
    yield from faults
    if not faults:
        yield ok("database", f"{where} is sound, in WAL mode, of the newest schema {newest_version(one.migrations)}")


def _schema_faults(connection: sqlite3.Connection, one: Kept, where: str) -> Iterator[Finding]:
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    version = None
    if VERSION_TABLE in tables:
        row = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone()  # noqa: S608 - a constant
        version = row[0] if row else None
    yield from schema_faults(one, where, tables, version)


def _file_faults(connection: sqlite3.Connection, where: str) -> Iterator[Finding]:
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if mode != "wal":
        yield warning("database", f"{where} is in {mode} mode, not WAL.", "The next start sets it; see who changed it.")
    damage = _quick_check(connection)
    if damage is None:
        yield skipped("database", f"{where} is too large to be checked for damage within {QUICK_CHECK_SECONDS:.0f} s")
    elif damage != "ok":
        yield failed(
            "database",
            f"{where} is damaged: {damage}.",
            "Stop Leads, keep a copy, then mend it with `sqlite3 FILE .recover` or restore a backup.",
        )


def _quick_check(connection: sqlite3.Connection) -> str | None:
    """`ok`, the first damage found, or None when the time ran out."""
    give_up_at = time.monotonic() + QUICK_CHECK_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > give_up_at, _STEPS)
    try:
        return " ".join(str(connection.execute("PRAGMA quick_check(1)").fetchone()[0]).split())
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return None
        raise
    finally:
        connection.set_progress_handler(None, 0)
