"""PostgreSQL as the database of a room: a few connections of asyncpg, a schema of the room's own.

Work runs on the event loop: each statement gives way to others while the server is at it, and nobody but who wants the
same rows is kept waiting meanwhile. `write` works on committed rows and is guarded by the statements themselves (unique
indexes, guarded updates, `dialect.take_turns`); `read` sees one snapshot.

A restart of the server is met with patience: a connection that it closed is replaced before anything is said on it, and
one that cannot be had yet is asked for again for as long as callers may wait. What was cut in the middle is not done
again here, but by whoever knows whether that is safe.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakSet

import asyncpg
from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared.engines import turns
from shared.engines.turns import Engines, Turns, not_offered
from shared.postgresql import is_collision, is_passing_absence
from shared.settings import SettingsError

WRITERS = 4
READERS = 4
"""For each process of a room, so that a dozen of them fit into the 100 connections that PostgreSQL gives by default."""

CONNECT_SECONDS = 3.0
STATEMENT_SECONDS = 10.0
"""After so long PostgreSQL gives a statement up."""

SILENCE_SECONDS = 12.0
"""After so long in one piece of work the connection is cut: the server, or the way to it, is frozen."""

CLOSE_SECONDS = 0.5
"""For what is under way at the end, and for goodbyes. A server that hangs answers none, and would keep a room that is
told to stop for ever."""

ASK_AGAIN_SECONDS = 0.1
HIGHEST_PORT = 65535
OPTIONS = frozenset({"host", "passfile", "ssl"})
"""What may follow the `?` of a URL; `sslmode` is `ssl`. How long to wait, and for what, is Leads' own affair."""

TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

COLLISIONS_BORNE = 3
"""How often work begins anew when PostgreSQL picked it to end a deadlock."""

Result = TypeVar("Result")


def open_postgresql(url: URL, setting: str, schema: str) -> Engines:
    """Connects to nothing yet. Raises `SettingsError` for a URL that cannot work."""
    if not url.database:
        raise not_offered(setting)
    if url.port is not None and not 0 < url.port <= HIGHEST_PORT:
        raise SettingsError(f"{setting}: {url.port} is no port: they are 1 to {HIGHEST_PORT}.")
    ours = _understood(url.set(drivername="postgresql+asyncpg"), setting)
    return Engines(
        where=f"{url.host or 'localhost'}:{url.port or 5432}/{url.database}",
        writers=Pool(ours, WRITERS, schema, {"default_transaction_isolation": "read committed"}),
        readers=Pool(
            ours,
            READERS,
            schema,
            {"default_transaction_isolation": "repeatable read", "default_transaction_read_only": "on"},
        ),
    )


class Pool(Turns):
    """Connections to one database, opened as they are needed."""

    def __init__(self, url: URL, count: int, schema: str, settings: Mapping[str, str]) -> None:
        super().__init__(count)
        self._engine = _engine(url, count, schema, settings)
        self._drivers: WeakSet[asyncpg.Connection] = WeakSet()
        event.listen(self._engine.sync_engine, "connect", self._connected)
        self._running: set[asyncio.Future[Any]] = set()

    def _start(self, work: Callable[[Connection], Result], *, at_leisure: bool) -> asyncio.Future[Result]:
        running = asyncio.ensure_future(self._perform(work, at_leisure=at_leisure))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return running

    async def _perform(self, work: Callable[[Connection], Result], *, at_leisure: bool) -> Result:
        for _ in range(COLLISIONS_BORNE):
            try:
                return await self._perform_once(work, at_leisure=at_leisure)
            except DBAPIError as error:
                if not is_collision(error):
                    raise
        return await self._perform_once(work, at_leisure=at_leisure)

    async def _perform_once(self, work: Callable[[Connection], Result], *, at_leisure: bool) -> Result:
        connection = await self._connect()
        try:
            if at_leisure:
                return await connection.run_sync(work)
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, asyncpg.Connection)
            cut = asyncio.get_running_loop().call_later(SILENCE_SECONDS, driver.terminate)
            try:
                return await connection.run_sync(work)
            finally:
                cut.cancel()
        finally:
            await connection.close()

    async def _connect(self) -> AsyncConnection:
        """A connection that is not known to be dead. A server that is just starting is waited for."""
        give_up_at = time.monotonic() + turns.BUSY_TIMEOUT_SECONDS
        while True:
            try:
                return await self._engine.connect()
            except (DBAPIError, OSError) as error:
                if time.monotonic() > give_up_at or not is_passing_absence(error):
                    raise
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    def _connected(self, connection: Any, _record: Any) -> None:
        self._drivers.add(connection.driver_connection)

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._running:
                    await asyncio.wait(self._running)
                await self._engine.dispose()
        except TimeoutError:
            for driver in self._drivers:
                driver.terminate()


def _engine(url: URL, count: int, schema: str, settings: Mapping[str, str]) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=count,
        max_overflow=0,
        connect_args={
            "timeout": CONNECT_SECONDS,
            "server_settings": {
                "application_name": f"leads {schema}",
                "search_path": schema,
                "synchronous_commit": "on",  # whatever the database's default is: what returned is on the disk
                "lock_timeout": f"{turns.BUSY_TIMEOUT_SECONDS:.2f}s",
                "statement_timeout": f"{STATEMENT_SECONDS:.0f}s",
                "timezone": "UTC",
                **settings,
            },
        },
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def checked_out(connection: Any, _record: Any, _proxy: Any) -> None:
        if connection.driver_connection.is_closed():  # the server went meanwhile; the pool connects anew
            raise DisconnectionError

    return engine


def _understood(url: URL, setting: str) -> URL:
    """The URL with options as asyncpg names them. Raises `SettingsError` for one that it could not connect with."""
    options = dict(url.query)
    if "sslmode" in options:  # as libpq and the providers of databases write it
        options["ssl"] = options.pop("sslmode")
    if unknown := sorted(options.keys() - OPTIONS):
        raise SettingsError(
            f"{setting}: {unknown[0]} is no option of a connection: Leads takes {', '.join(sorted(OPTIONS))}."
        )
    if "ssl" in options:
        _check_tls(str(options["ssl"]), setting)
    return url.set(query=options)


def _check_tls(mode: str, setting: str) -> None:
    """Where the authority's certificate is looked for: https://www.postgresql.org/docs/current/libpq-ssl.html."""
    if mode not in TLS_MODES:
        raise SettingsError(f"{setting}: ssl must be one of {', '.join(TLS_MODES)}, not {mode}.")
    authority = Path(os.environ.get("PGSSLROOTCERT") or Path.home() / ".postgresql" / "root.crt")
    if mode.startswith("verify-") and not authority.is_file():
        raise SettingsError(
            f"{setting}: ssl={mode} needs the certificate of the authority, and {authority} is not there: "
            "PGSSLROOTCERT names its file."
        )
