"""The database of a room: engine, transactions, group commit. The only module that commits; migrations: `schema.py`.

SQLite is opened so that a commit that returned is on the disk (WAL, `synchronous=FULL`) and a writer never finds at its
second statement that somebody else was first (`BEGIN IMMEDIATE`; https://www.sqlite.org/isolation.html).

Work is a plain function that gets a session, and runs from its first statement to its commit on a thread of the
database's own: a trip to a thread costs more than most statements, and a busy event loop in between two of them would
keep everybody else locked out.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import structlog
from sqlalchemy import URL, Connection, Engine, Enum, Table, create_engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.orm import Session
from sqlmodel import SQLModel

from shared.metrics import COMMIT_GROUP_SIZE
from shared.problems import Problem, ProblemType
from shared.schema import bring_up_to_date
from shared.settings import SettingsError

BUSY_TIMEOUT_SECONDS = 2.0
"""How long a transaction waits for our own writer's turn, and then for another process to let go of the write lock:
both together less than a caller of the intake is kept waiting (5 s)."""

READERS = 4
RETRY_AFTER_SECONDS = 5
LARGEST_GROUP = 64
"""Most items that share a commit: beyond this the first waits longer than a lone fsync would have cost it."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Result = TypeVar("Result")

log = structlog.get_logger()


class Database:
    """One database. Writers take turns; readers see a snapshot and never wait for them."""

    def __init__(self, url: str, *, setting: str = "LEADS_DATABASE_URL") -> None:
        """`setting` is where the URL comes from. Raises `SettingsError` for one that names no SQLite file."""
        where = _sqlite_url(url, setting)
        self._name = f"{setting}: {where.database}"
        self._writer = _Threads(where, 1, begin="BEGIN IMMEDIATE", pragmas=())
        self._readers = _Threads(where, READERS, begin="BEGIN", pragmas=("query_only=ON",))

    async def write(self, work: Callable[[Session], Result]) -> Result:
        """Run `work` in one transaction: durable when this returns, or it has not happened at all.

        A caller that is cancelled does not know which. Raises what `work` raises, and `Problem(UNAVAILABLE)` when the
        database is locked, full or away.
        """
        with unavailable_when_broken():
            return await self._writer.run(partial(_in_transaction, work))

    async def read(self, work: Callable[[Session], Result]) -> Result:
        """Run `work` on one snapshot. It can write nothing: the connection refuses it. Raises as `write` does."""
        with unavailable_when_broken():
            return await self._readers.run(partial(_in_snapshot, work))

    async def check(self) -> None:
        """Raises when the database does not answer."""
        await self.read(lambda session: session.execute(text("SELECT 1")).scalar())

    async def migrate(self, versions: Path) -> None:
        """Bring the schema to the newest version in `versions`, whose files are named by revision, in order.

        Raises `DatabaseUnfit` and `DatabaseBroken` of `schema.py`.
        """
        await self._writer.run(partial(bring_up_to_date, versions, where=self._name))

    async def close(self) -> None:
        """Finish what runs and let go of the file."""
        await asyncio.to_thread(self._readers.close)
        await asyncio.to_thread(self._writer.close)


class Writes(Protocol):
    """What a group commit needs of a database."""

    async def write(self, work: Callable[[Session], Result]) -> Result: ...


class GroupCommit(Generic[Item, Outcome]):
    """Many callers, one durable transaction: while one commit is on its way to the disk, the next group gathers.

    `flush` gets the items of a group in the order they came and answers with one outcome for each, in that order.
    `add` returns an outcome only after the commit. A group that fails is tried again one by one, so that nobody is
    refused for what a neighbour sent.
    """

    def __init__(self, database: Writes, flush: Callable[[Session, Sequence[Item]], Sequence[Outcome]]) -> None:
        self._database = database
        self._flush = flush
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._committer: asyncio.Task[None] | None = None

    async def add(self, item: Item) -> Outcome:
        """The item's outcome, once it is durable. Raises what `flush` or the commit raised."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._committer is None or self._committer.done():
            self._committer = asyncio.create_task(self._commit_groups())
        return await future

    async def _commit_groups(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting[:LARGEST_GROUP], self._waiting[LARGEST_GROUP:]
            COMMIT_GROUP_SIZE.observe(len(group))
            await self._commit(group)

    async def _commit(self, group: Sequence[tuple[Item, "asyncio.Future[Outcome]"]]) -> None:
        items = [item for item, _ in group]
        try:
            outcomes = await self._database.write(lambda session: self._flush(session, items))
        except Exception as error:  # noqa: BLE001 - handed to the callers, who wait for nothing else
            await self._after_failure(group, error)
            return
        for (_, future), outcome in zip(group, outcomes, strict=True):
            if not future.done():
                future.set_result(outcome)

    async def _after_failure(self, group: Sequence[tuple[Item, "asyncio.Future[Outcome]"]], error: Exception) -> None:
        if isinstance(error, Problem):
            # Whoever came meanwhile would be told the same, after waiting for as long once more.
            group, self._waiting = [*group, *self._waiting], []
        elif len(group) > 1:
            for one in group:
                await self._commit([one])
            return
        for _, future in group:
            if not future.done():
                future.set_exception(error)


def text_enum(members: type[StrEnum]) -> Enum:
    """A column that keeps a member's value as text: what stands in the database is what stands in JSON."""
    return Enum(members, values_callable=list, native_enum=False, create_constraint=False, length=32)


def table_of(model: type[SQLModel]) -> Table:
    """The table behind a class, for statements on hot paths: those on classes are compiled anew each time."""
    return SQLModel.metadata.tables[str(model.__tablename__)]


def as_utc(moment: datetime) -> datetime:
    """SQLite hands an instant back without the zone it was given; all that we keep is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class _Threads:
    """Threads with a connection each, on which work on the database runs in one piece."""

    def __init__(self, url: URL, count: int, *, begin: str, pragmas: Sequence[str]) -> None:
        self._engine = create_engine(url, pool_size=count, max_overflow=0)
        _open_sqlite(self._engine, begin=begin, pragmas=pragmas)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="database")
        self._turns = asyncio.Semaphore(count)
        self._closed = False

    async def run(self, work: Callable[[Engine], Result]) -> Result:
        """The result of `work`. Raises what it raises, or `TimeoutError` when no thread becomes free in time."""
        async with asyncio.timeout(BUSY_TIMEOUT_SECONDS):
            await self._turns.acquire()
        if self._closed:
            self._turns.release()
            raise TimeoutError("the database is being closed")
        running = asyncio.get_running_loop().run_in_executor(self._threads, self._perform, work)
        # The turn ends with the work, not with a caller who goes away before.
        running.add_done_callback(lambda _: self._turns.release())
        return await asyncio.shield(running)

    def _perform(self, work: Callable[[Engine], Result]) -> Result:
        try:
            return work(self._engine)
        except StopIteration as stop:  # which no future can carry: its caller would wait for ever
            raise RuntimeError("work on the database ended an iteration that it did not begin") from stop

    def close(self) -> None:
        """Wait for what runs, and close the connections. Who still waits for a turn gets a `TimeoutError`."""
        self._closed = True
        self._threads.shutdown()
        self._engine.dispose()


def _in_transaction(work: Callable[[Session], Result], engine: Engine) -> Result:
    with Session(engine, expire_on_commit=False) as session, session.begin():
        return work(session)


def _in_snapshot(work: Callable[[Session], Result], engine: Engine) -> Result:
    with Session(engine, expire_on_commit=False) as session:
        return work(session)


@contextmanager
def unavailable_when_broken() -> Iterator[None]:
    """A broken database is nobody's fault who calls: log what it said, tell them to come back."""
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, TimeoutError) as error:
        reason = str(getattr(error, "orig", None) or error) or "every connection is taken"
        log.error("database unavailable", reason=reason)
        raise Problem(
            ProblemType.UNAVAILABLE,
            "Leads cannot keep or read anything right now. Please try again in a moment.",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from error


def _sqlite_url(url: str, setting: str) -> URL:
    """The URL for our own threads, whichever driver it names. Makes the folder, for its owner alone."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = URL.create("unreadable")
    if parsed.drivername.partition("+")[0] != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise SettingsError(f"{setting} must be sqlite:////path/to/file: no other database is offered.")
    try:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingsError(f"{setting}: its folder cannot be made ({error.strerror}).") from None
    return parsed.set(drivername="sqlite")


def _open_sqlite(engine: Engine, *, begin: str, pragmas: Sequence[str]) -> None:
    always = (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "journal_size_limit=67108864",
        "temp_store=MEMORY",
    )

    @event.listens_for(engine, "connect")
    def opened(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin on its own: `begun` below says how
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_SECONDS * 1000)}")
        for pragma in (*always, *pragmas):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
