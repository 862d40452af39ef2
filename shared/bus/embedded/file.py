"""The embedded bus's file: opened, written in whole transactions, opened again when it broke, its errors told in words.

One SQLite file in WAL mode, so all processes that share it run on one machine (https://www.sqlite.org/wal.html). What
the rows mean lives in `rows`, who claims them in `consumer`.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import aiosqlite

from shared.bus.embedded.schema import PRAGMAS, FileRefused, check_ours, create, note_renewal
from shared.bus.protocol import BusUnavailable
from shared.sqlite import PASSING, primary_code, telling

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
"""Something to do on the connection's thread. It never awaits, so no event loop sits on a lock."""

LOCK_TIMEOUT_SECONDS = 5.0
"""How long a writer waits for its turn. Turns last milliseconds: who waits this long waits for a foreign program."""

BUSY_TIMEOUT_SECONDS = 0.01
"""One nap. SQLite's own naps grow to 100 ms and could miss every gap of a busy queue: we ask again instead."""


class QueueFile:
    """One connection to the file, on a thread of its own (aiosqlite), opened again after an error that broke it."""

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()
        self._opening = asyncio.Lock()
        self._connection: _Connection | None = None
        self._used: tuple[int, int] | None = None
        """Which file was last in use at the path."""
        self.is_open = False

    async def open(self) -> None:
        """Create or check the file. Safe to call twice. Raises `BusUnavailable`, which says what to mend."""
        was_open, self.is_open = self.is_open, True
        try:
            await self._connected()
        except BaseException:
            self.is_open = was_open
            raise

    async def close(self) -> None:
        """Finish what runs and let go of the file. Safe to call twice."""
        self.is_open = False
        async with self._opening:
            await self._drop(self._connection)

    async def read(self, work: Work[T]) -> T:
        """Run `work`, which may run again when the file was locked. Raises `BusUnavailable`."""
        return await self._run(partial(_patiently, work))

    async def write(self, work: Work[T], *, durable: bool = True) -> T:
        """Run `work` in one transaction: all of it is kept, or `BusUnavailable` is raised and nothing is.

        A caller that is cancelled does not know which. What is not `durable` is not flushed to the disk: a power cut
        may undo it, a killed process cannot (https://www.sqlite.org/pragma.html#pragma_synchronous).
        """
        return await self._run(partial(_in_transaction, work=work, durable=durable), in_place=True)

    async def _run(self, work: Work[T], *, in_place: bool = False) -> T:
        connection = await self._connected()
        try:
            return await connection.run(work, in_place=in_place)
        except (sqlite3.ProgrammingError, sqlite3.IntegrityError, ValueError) as error:
            if connection is self._connection:
                raise
            raise BusUnavailable("The queue file was closed while it was in use.") from error
        except (sqlite3.DatabaseError, FileRefused, OSError) as error:
            if primary_code(error) not in PASSING:
                await self._drop(connection)
            raise BusUnavailable(explain(error)) from error

    async def _connected(self) -> "_Connection":
        async with self._opening:
            if not self.is_open:
                raise BusUnavailable("The bus is not open.")
            if self._connection is None:
                try:
                    self._connection = await self._opened()
                except (sqlite3.Error, FileRefused, OSError) as error:
                    raise BusUnavailable(explain(error)) from error
            return self._connection

    async def _opened(self) -> "_Connection":
        """A disk that was unmounted and is back brings back a file that lacks what the one in its place was given."""
        connection = await _connect(self._path)
        if self._used not in {None, connection.identity}:
            try:
                await connection.run(partial(_in_transaction, work=note_renewal, durable=True), in_place=True)
            except BaseException:
                await connection.close()
                raise
        self._used = connection.identity
        return connection

    async def _drop(self, connection: "_Connection | None") -> None:
        if connection is None or connection is not self._connection:
            return
        self._connection = None
        # What is dropped is broken, and the error that says so is already on its way to the caller.
        with suppress(sqlite3.Error):
            await connection.close()


class _Connection(aiosqlite.Connection):
    """Runs a whole transaction as one piece on the connection's thread.

    Statement by statement, an event loop that is busy between two of them would keep every other process locked out.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(self._open, iter_chunk_size=64)
        # A process that ends without closing the bus, because something else failed, shall end and not wait for us.
        self._thread.daemon = True
        self._path = path
        self.identity: tuple[int, int] | None = None
        self.stopped: asyncio.Future[None] | None = None

    def stop(self) -> "asyncio.Future[None] | None":
        self.stopped = super().stop()
        return self.stopped

    async def run(self, work: Work[T], *, in_place: bool) -> T:
        # A closure: aiosqlite logs what it executes at debug, and the arguments of a partial are people's data.
        def perform() -> T:
            return self._perform(work, in_place)

        result: T = await self._execute(perform)  # type: ignore[no-untyped-call]
        return result

    def _open(self) -> sqlite3.Connection:
        connection = _open_file(self._path)
        self.identity = _identity(self._path)
        return connection

    def _perform(self, work: Work[T], in_place: bool) -> T:  # noqa: FBT001
        # SQLite keeps writing to a file that was deleted: confirmed, and gone with the last process that has it open.
        if in_place and _identity(self._path) != self.identity:
            raise FileRefused(
                "was moved or deleted while in use: what was in it went with it, and the path is opened anew"
            )
        return work(self._conn)


def explain(error: Exception) -> str:
    """One line for the operator: which setting, what is wrong, what to do. Names no path and no content."""
    subject = "The queue file (LEADS_BROKER_URL)"
    if isinstance(error, FileRefused):
        return f"{subject} {error}."
    if isinstance(error, sqlite3.Error):
        return f"{subject} {telling(error)}."
    reason = getattr(error, "strerror", None) or type(error).__name__
    return f"{subject} cannot be reached ({reason}): check the path, its folder and their permissions."


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


async def _connect(path: Path) -> _Connection:
    connection = _Connection(path)
    try:
        await connection
    except BaseException:
        # aiosqlite tells its thread to end and does not wait; a loop that closes first would break it.
        if connection.stopped is not None:
            await connection.stopped
        raise
    return connection


def _open_file(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None)
    try:
        # Not opened by us to set its mode: closing any handle of a file drops the locks this process has on it
        # (https://www.sqlite.org/howtocorrupt.html, section 2.2). The log and the index take their mode from the file.
        if path.stat().st_size == 0:
            path.chmod(0o600)
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    _patiently(_check, connection)
    mode = _patiently(lambda conn: conn.execute("PRAGMA journal_mode = WAL").fetchone()[0], connection)
    if mode != "wal":
        raise FileRefused("lies where processes cannot share it (a network drive?): put it on a local disk")
    for pragma in PRAGMAS:
        connection.execute(pragma)
    _in_transaction(connection, work=create, durable=True)


def _check(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN")
    try:
        check_ours(connection)
    finally:
        connection.execute("ROLLBACK")


def _in_transaction(connection: sqlite3.Connection, *, work: Work[T], durable: bool) -> T:
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
    _patiently(lambda conn: conn.execute("BEGIN IMMEDIATE"), connection)
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return result


def _patiently(work: Work[T], connection: sqlite3.Connection) -> T:
    """Run `work` until the file is not locked."""
    give_up_at = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            return work(connection)
        except sqlite3.OperationalError as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_at:
                raise
