"""MySQL and MariaDB as the database of a room, by asyncmy: a database of its own. How it is worked on: `pool.py`.

InnoDB keeps every table, and instants and texts come back as they went in, whatever the server's defaults are. That a
commit is on the disk when it returns only the server's own settings say: `unfit` looks.
"""

import logging
import ssl
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from shared.engines import turns
from shared.engines.pool import (
    CONNECT_SECONDS,
    IDLE_SECONDS,
    READERS,
    STATEMENT_SECONDS,
    WRITERS,
    Driver,
    Pool,
    check_options,
    check_port,
)
from shared.engines.turns import Engines, not_offered
from shared.mysql import is_collision, is_passing_absence
from shared.settings import SettingsError

OPTIONS = frozenset({"ssl", "ssl_ca", "unix_socket"})
"""What may follow the `?` of a URL. How long to wait, and for what, is Leads' own affair."""

TLS_MODES = ("disabled", "required", "verify_identity")
"""As MySQL's own programs name them (https://dev.mysql.com/doc/refman/8.4/en/connection-options.html)."""

SQL_MODE = "'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'"

_READ_COMMITTED = ("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",)
_ONE_SNAPSHOT = (
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    "SET SESSION TRANSACTION READ ONLY",
)


def open_mysql(url: URL, setting: str) -> Engines:
    """Connects to nothing yet. Raises `SettingsError` for a URL that cannot work."""
    if not url.database:
        raise not_offered(setting)
    logging.getLogger("asyncmy").setLevel(logging.CRITICAL)  # it passes on what servers remark on Alembic's own table
    check_port(url, setting)
    check_options(url, setting, OPTIONS)
    pool = partial(_pool, url.set(drivername="mysql+asyncmy"), setting)
    return Engines(
        where=f"{url.query.get('unix_socket') or _address(url)}/{url.database}",
        writers=pool(WRITERS, _READ_COMMITTED),
        readers=pool(READERS, _ONE_SNAPSHOT),
    )


def _address(url: URL) -> str:
    return f"{url.host or 'localhost'}:{url.port or 3306}"


def _pool(url: URL, setting: str, count: int, how: Sequence[str]) -> Pool:
    return Pool(_engine(url, setting, count, how), count, Driver(_cut, is_collision, is_passing_absence))


def _cut(connection: Any) -> None:
    """By its transport: a `close` sends first what waits to be sent, and with TLS waits for a goodbye."""
    if connection._transport is not None:  # noqa: SLF001 - public in the driver's own declarations
        connection._transport.abort()  # noqa: SLF001
    connection.close()


def _engine(url: URL, setting: str, count: int, how: Sequence[str]) -> AsyncEngine:
    options = dict(url.query)
    engine = create_async_engine(
        url.set(query={name: value for name, value in options.items() if name == "unix_socket"}),
        pool_size=count,
        max_overflow=0,
        pool_pre_ping=True,  # the driver does not notice by itself that the server went meanwhile
        pool_reset_on_return=None,  # whoever works here ends what he began; if not, `given_back` does: one trip less
        connect_args={
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_SECONDS,
            "password": (url.password or "").encode(),  # which the driver would send as Latin-1
            "program_name": f"leads {setting}",
            "sql_mode": SQL_MODE,  # before SQLAlchemy looks how to quote
            "ssl": _tls(str(options.get("ssl", "disabled")), str(options.get("ssl_ca", "")), setting),
        },
    )

    @event.listens_for(engine.sync_engine, "reset")
    def given_back(connection: Any, record: Any, _state: Any) -> None:
        if connection.driver_connection.get_transaction_status():  # a COMMIT or ROLLBACK that the server refused
            record.invalidate()

    @event.listens_for(engine.sync_engine, "connect")
    def opened(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT VERSION()")
        is_mariadb = "mariadb" in str(cursor.fetchone()[0]).lower()
        for statement in (*_always(is_mariadb=is_mariadb), *how):
            cursor.execute(statement)
        cursor.close()

    return engine


def _always(*, is_mariadb: bool) -> Sequence[str]:
    lock_seconds = max(1, round(turns.BUSY_TIMEOUT_SECONDS))
    limit = f"max_statement_time = {STATEMENT_SECONDS}"
    if not is_mariadb:
        limit = f"max_execution_time = {STATEMENT_SECONDS * 1000:.0f}"  # of SELECTs; others end with the connection
    return (
        f"SET SESSION wait_timeout = {IDLE_SECONDS}",  # of the whole connection: one that is idle is opened anew
        "SET SESSION time_zone = '+00:00', SESSION default_storage_engine = 'InnoDB'",
        f"SET SESSION innodb_lock_wait_timeout = {lock_seconds}, SESSION lock_wait_timeout = {lock_seconds}",
        f"SET SESSION {limit}",
    )


def _tls(mode: str, authority: str, setting: str) -> ssl.SSLContext | None:
    """Raises `SettingsError` for what cannot work."""
    if mode not in TLS_MODES:
        raise SettingsError(f"{setting}: ssl must be one of {', '.join(TLS_MODES)}, not {mode}.")
    if authority and not Path(authority).is_file():
        raise SettingsError(f"{setting}: ssl_ca must name the file of an authority's certificate; {authority} is none.")
    if mode == "disabled":
        return None
    try:
        context = ssl.create_default_context(cafile=authority or None)
    except OSError as error:  # SSLError is one
        raise SettingsError(f"{setting}: {authority} cannot be read as a certificate ({error.strerror}).") from None
    if mode == "required":  # encrypted, whoever it is
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
