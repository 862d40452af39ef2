"""The database of a room: engine, transactions, group commit, migrations. The only module that commits.

SQLite is opened so that a commit that returned is on the disk (WAL, `synchronous=FULL`) and a writer never finds at its
second statement that somebody else was first (`BEGIN IMMEDIATE`; https://www.sqlite.org/isolation.html).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

import structlog
from sqlalchemy import Connection, Enum, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from shared.metrics import COMMIT_GROUP_SIZE
from shared.problems import Problem, ProblemType

BUSY_TIMEOUT_SECONDS = 2.0
"""How long a transaction waits for our own writer's turn, and then for another process to let go of the write lock:
both together less than a caller of the intake is kept waiting (5 s)."""

READERS = 4
RETRY_AFTER_SECONDS = 5
LARGEST_GROUP = 64
"""Most items that share a commit: beyond this the first waits longer than a lone fsync would have cost it."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

log = structlog.get_logger()


class Database:
    """One database. Writers take turns; readers see a snapshot and never wait for them."""

    def __init__(self, url: str) -> None:
        self._sqlite = make_url(url).get_backend_name() == "sqlite"
        self._writer = _engine(url, connections=1 if self._sqlite else READERS)
        self._reader = self._writer
        if self._sqlite:
            _make_private_folder(url)
            self._reader = _engine(url, connections=READERS)
            _open_sqlite(self._writer, begin="BEGIN IMMEDIATE", pragmas=())
            _open_sqlite(self._reader, begin="BEGIN", pragmas=("query_only=ON",))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        """A session whose work is durable when the block has ended, or has not happened at all.

        Raises `Problem(UNAVAILABLE)` when the database is locked, full or away.
        """
        async with (
            _unavailable_when_broken(),
            AsyncSession(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncSession]:
        """A session that reads one snapshot and can write nothing (on SQLite the connection refuses it)."""
        async with _unavailable_when_broken(), AsyncSession(self._reader, expire_on_commit=False) as session:
            yield session

    async def check(self) -> None:
        """Raises when the database does not answer."""
        async with self.reading() as session:
            await session.execute(text("SELECT 1"))

    async def migrate(self, versions: Path) -> None:
        """Bring the schema to the newest version in `versions`, whose files are named by revision, in order.

        Raises `SchemaTooNew`.
        """
        async with self._writer.begin() as connection:
            await connection.run_sync(_bring_up_to_date, versions)

    async def close(self) -> None:
        await self._reader.dispose()
        await self._writer.dispose()


class SchemaTooNew(Exception):  # noqa: N818
    """The database was written by a newer Leads than this one."""


class GroupCommit(Generic[Item, Outcome]):
    """Many callers, one durable transaction: while one commit is on its way to the disk, the next group gathers.

    `flush` gets the items of a group in the order they came and answers with one outcome for each, in that order.
    `add` returns an outcome only after the commit. A group that fails is tried again one by one, so that nobody is
    refused for what a neighbour sent.
    """

    def __init__(
        self,
        transaction: Callable[[], AbstractAsyncContextManager[AsyncSession]],
        flush: Callable[[AsyncSession, Sequence[Item]], Awaitable[Sequence[Outcome]]],
    ) -> None:
        self._transaction = transaction
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
        try:
            async with self._transaction() as session:
                outcomes = await self._flush(session, [item for item, _ in group])
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


def as_utc(moment: datetime) -> datetime:
    """SQLite hands an instant back without the zone it was given; all that we keep is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@asynccontextmanager
async def _unavailable_when_broken() -> AsyncIterator[None]:
    """A broken database is nobody's fault who calls: log what it said, tell them to come back."""
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, PoolTimeoutError) as error:
        log.error("database unavailable", reason=str(getattr(error, "orig", None) or error))
        raise Problem(
            ProblemType.UNAVAILABLE,
            "Leads cannot keep or read anything right now. Please try again in a moment.",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from error


def _engine(url: str, *, connections: int) -> AsyncEngine:
    return create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_SECONDS,
    )


def _make_private_folder(url: str) -> None:
    database = make_url(url).database
    if database and database != ":memory:":
        Path(database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)


def _open_sqlite(engine: AsyncEngine, *, begin: str, pragmas: Sequence[str]) -> None:
    always = (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "journal_size_limit=67108864",
        "temp_store=MEMORY",
    )

    @event.listens_for(engine.sync_engine, "connect")
    def opened(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin on its own: `begun` below says how
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_SECONDS * 1000)}")
        for pragma in (*always, *pragmas):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _bring_up_to_date(connection: Connection, versions: Path) -> None:
    newest = max(path.stem for path in versions.glob("*.py"))
    if _current_version(connection) != newest:
        _upgrade(connection, versions)


def _current_version(connection: Connection) -> str | None:
    """What Alembic noted. Looked up without Alembic, which takes 7 MiB that an up-to-date room has no use for."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def _upgrade(connection: Connection, versions: Path) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory
    from alembic.util.exc import CommandError

    script = ScriptDirectory(str(versions.parent), version_locations=[str(versions)])

    def to_head(revision: Any, _context: Any) -> Any:
        return script._upgrade_revs("head", revision)  # noqa: SLF001 - as Alembic's own command.upgrade does

    with EnvironmentContext(Config(), script, fn=to_head) as environment:
        environment.configure(connection=connection)
        try:
            environment.run_migrations()
        except (CommandError, SQLAlchemyError) as error:
            if "Can't locate revision" not in str(error):
                raise
            raise SchemaTooNew(
                "The database was written by a newer version of Leads. Start that version, or restore a backup."
            ) from error
