"""A database that is a server: a few connections to it, and patience where it goes away.

Work runs on the event loop: each statement gives way to others while the server is at it, and nobody but who wants the
same rows is kept waiting meanwhile. `write` works on committed rows and is guarded by the statements themselves (unique
indexes, guarded updates, `dialect.take_turns`); `read` sees one snapshot.

A restart of the server is met with patience: a connection that it closed is replaced before anything is said on it, and
one that cannot be had yet is asked for again for as long as callers may wait. What was cut in the middle is not done
again here, but by whoever knows whether that is safe.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakSet

from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.engines import turns
from shared.engines.turns import Turns
from shared.settings import SettingsError

WRITERS = 4
READERS = 4
"""For each process of a room, so that a dozen of them fit into the 100 connections that PostgreSQL gives by default,
and into the 151 of MySQL."""

CONNECT_SECONDS = 3.0
STATEMENT_SECONDS = 10.0
"""After so long the server gives a statement up."""

SILENCE_SECONDS = 12.0
"""After so long in one piece of work the connection is cut: the server, or the way to it, is frozen."""

IDLE_SECONDS = 60
"""After so long the server ends a transaction on which nothing is said: whoever began it may have lost its power, and
its locks would stay for hours."""

CLOSE_SECONDS = 0.5
"""For what is under way at the end, and for goodbyes. A server that hangs answers none, and would keep a room that is
told to stop for ever."""

ASK_AGAIN_SECONDS = 0.1
HIGHEST_PORT = 65535

COLLISIONS_BORNE = 3
"""How often work begins anew when the server picked it to end a deadlock."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Driver:
    """What a server's driver says in its own way."""

    cut: Callable[[Any], None]
    """Drop a connection without a goodbye: whoever waits for its answer is told at once."""
    is_collision: Callable[[BaseException], bool]
    is_passing_absence: Callable[[BaseException], bool]


class Pool(Turns):
    """Connections to one database, opened as they are needed."""

    def __init__(self, engine: AsyncEngine, count: int, driver: Driver) -> None:
        super().__init__(count)
        self._engine = engine
        self._driver = driver
        self._connections: WeakSet[Any] = WeakSet()
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
                if not self._driver.is_collision(error):
                    raise
        return await self._perform_once(work, at_leisure=at_leisure)

    async def _perform_once(self, work: Callable[[Connection], Result], *, at_leisure: bool) -> Result:
        connection = await self._connect()
        raw = (await connection.get_raw_connection()).driver_connection
        cut = asyncio.get_running_loop().call_later(SILENCE_SECONDS, self._driver.cut, raw)
        if at_leisure:
            cut.cancel()
        try:
            return await connection.run_sync(work)
        finally:
            try:
                await connection.close()  # which may ask the server to take back what is open
            finally:
                cut.cancel()

    async def _connect(self) -> AsyncConnection:
        """A connection that is not known to be dead. A server that is just starting is waited for."""
        give_up_at = time.monotonic() + turns.BUSY_TIMEOUT_SECONDS
        while True:
            try:
                return await self._connect_in_time()
            except (DBAPIError, OSError) as error:
                if time.monotonic() > give_up_at or not self._driver.is_passing_absence(error):
                    raise
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    async def _connect_in_time(self) -> AsyncConnection:
        """The drivers' own limit does not hold for what is said once they are connected."""
        try:
            async with asyncio.timeout(2 * CONNECT_SECONDS):
                return await self._engine.connect()
        except TimeoutError:
            raise TimeoutError("the server did not answer in time") from None

    def _connected(self, connection: Any, _record: Any) -> None:
        self._connections.add(connection.driver_connection)

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._running:
                    await asyncio.wait(self._running)
                await self._engine.dispose()
        except TimeoutError:
            for connection in self._connections:
                self._driver.cut(connection)


def check_port(url: URL, setting: str) -> None:
    """Raises `SettingsError` for a port that is none."""
    if url.port is not None and not 0 < url.port <= HIGHEST_PORT:
        raise SettingsError(f"{setting}: {url.port} is no port: they are 1 to {HIGHEST_PORT}.")


def check_options(url: URL, setting: str, offered: frozenset[str]) -> None:
    """Raises `SettingsError` for what may not follow the `?` of a URL."""
    if unknown := sorted(url.query.keys() - offered):
        raise SettingsError(
            f"{setting}: {unknown[0]} is no option of a connection: Leads takes {', '.join(sorted(offered))}."
        )
