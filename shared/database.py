"""The database of a room: transactions and group commit. The only module that commits; migrations: `schema.py`.

Work is a plain function that gets a session, and runs in one piece from its first statement to its commit. Where it
runs is the engine's affair: SQLite has threads for it, a server the event loop (`engines/`). A commit that returned
is on the disk with each.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import structlog
from sqlalchemy import Connection, Enum, Table, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.orm import Session
from sqlmodel import SQLModel

from shared.engines import open_engines
from shared.grouping import Grouping, Item, Outcome
from shared.metrics import COMMIT_GROUP_SIZE
from shared.problems import Problem, ProblemType
from shared.schema import bring_up_to_date, told_in_words

RETRY_AFTER_SECONDS = 5
LARGEST_GROUP = 64
"""Most items that share a commit: beyond this the first waits longer than a lone fsync would have cost it."""

Result = TypeVar("Result")

log = structlog.get_logger()


class Database:
    """One database. Readers see a snapshot and never wait for writers."""

    def __init__(self, url: str, *, setting: str = "LEADS_DATABASE_URL", schema: str = "") -> None:
        """`setting` is where the URL comes from, `schema` whose tables are meant where that does not tell.

        Raises `SettingsError` for a URL that names no database of ours.
        """
        engines = open_engines(url, setting, schema)
        self.name = f"{setting}: {engines.where}"
        """The setting and where it leads, for messages."""
        self.is_file = engines.is_file
        self._writer, self._readers = engines.writers, engines.readers

    async def write(self, work: Callable[[Session], Result]) -> Result:
        """Run `work` in one transaction: durable when this returns, or it has not happened at all.

        Raises what `work` raises, and `Problem(UNAVAILABLE)` when the database is locked, full or away. Who is
        cancelled, or told so because a server went away at the commit, does not know which of the two it is: only a
        look tells, and only `dialect.after_writers` makes that final.
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
        with told_in_words(self.name):
            await self._writer.run(partial(bring_up_to_date, versions, where=self.name), at_leisure=True)

    async def close(self) -> None:
        """Finish what runs and let go of the database."""
        await self._readers.close()
        await self._writer.close()


class Writes(Protocol):
    """What a group commit needs of a database."""

    async def write(self, work: Callable[[Session], Result]) -> Result: ...


class GroupCommit(Grouping[Item, Outcome]):
    """Many callers, one durable transaction: while one commit is on its way to the disk, the next group gathers.

    `flush` gets the items of a group in the order they came and answers with one outcome for each, in that order.
    `add` returns an outcome only after the commit.
    """

    def __init__(self, database: Writes, flush: Callable[[Session, Sequence[Item]], Sequence[Outcome]]) -> None:
        async def commit(items: Sequence[Item]) -> Sequence[Outcome]:
            COMMIT_GROUP_SIZE.observe(len(items))
            return await database.write(lambda session: flush(session, items))

        super().__init__(commit, largest=LARGEST_GROUP)


def text_enum(members: type[StrEnum]) -> Enum:
    """A column that keeps a member's value as text: what stands in the database is what stands in JSON."""
    return Enum(members, values_callable=list, native_enum=False, create_constraint=False, length=32)


def table_of(model: type[SQLModel]) -> Table:
    """The table behind a class, for statements on hot paths: those on classes are compiled anew each time."""
    return SQLModel.metadata.tables[str(model.__tablename__)]


def as_utc(moment: datetime) -> datetime:
    """SQLite hands an instant back without the zone it was given; all that we keep is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _in_transaction(work: Callable[[Session], Result], connection: Connection) -> Result:
    with Session(connection, expire_on_commit=False) as session, session.begin():
        return work(session)


def _in_snapshot(work: Callable[[Session], Result], connection: Connection) -> Result:
    with Session(connection, expire_on_commit=False) as session:
        return work(session)


@contextmanager
def unavailable_when_broken() -> Iterator[None]:
    """A broken database is nobody's fault who calls: log what it said, tell them to come back."""
    try:
        yield
    except (IntegrityError, DataError):  # what was sent is at fault, not the database
        raise
    except (DBAPIError, OSError) as error:  # OSError: a server that is away, no turn in time
        reason = str(getattr(error, "orig", None) or error) or "every connection is taken"
        log.error("database unavailable", reason=reason)
        raise Problem(
            ProblemType.UNAVAILABLE,
            "Leads cannot keep or read anything right now. Please try again in a moment.",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        ) from error
