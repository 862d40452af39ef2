"""Where uses of rate limits are counted: in the process, or in the api's database for all apis together.

Both are stores of the `limits` package, whose own shared ones each need a server more (Redis, Memcached, MongoDB).
"""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from limits.aio.storage import MemoryStorage, Storage
from sqlalchemy import Delete, delete, select, text
from sqlalchemy.orm import Session
from sqlmodel import col

from services.api.tables import RateCount
from shared.database import Database, GroupCommit
from shared.dialect import MYSQL

JUMP_SECONDS = 5.0
"""A clock that is put right by less, or little by little, costs a caller no more than that."""

KEPT_SECONDS = 86_400.0
"""Counts that ended are kept for so long: a clock that is ahead by hours must not remove those of others."""

CLEAN_SECONDS = 60.0


class ProcessCounts(MemoryStorage):
    """In memory: costs nothing, and each process counts for itself."""

    def __init__(self) -> None:
        super().__init__()
        self._clocks_apart = _clocks_apart()

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """The uses by now, these included."""
        await self._forget_after_jump()
        return await super().incr(key, expiry, amount)

    async def _forget_after_jump(self) -> None:
        """Counts end by the wall clock: put back by a day, it would keep a caller out until tomorrow."""
        apart = _clocks_apart()
        if abs(apart - self._clocks_apart) > JUMP_SECONDS:
            await self.reset()
        self._clocks_apart = apart


@dataclass(frozen=True)
class Use:
    """`amount` uses at the moment `at`, of a limit whose window is so long."""

    key: str
    amount: int
    at: float
    window_seconds: float


class DatabaseCounts(Storage):
    """In the api's database. Concurrent uses share a commit; a refused one costs a look more.

    Windows end by the clock of who began them. A process whose clock is wrong by more than a window and `JUMP_SECONDS`
    begins windows anew: limits are then looser, and keep nobody out for longer than a window.
    """

    STORAGE_SCHEME = None

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database
        self._uses = GroupCommit(database, self._count)
        self._clean_at = 0.0

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """None is to be wrapped: `Problem` says what is wrong."""
        return ()

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """The uses by now, these included. Raises `Problem` when the database is away."""
        return await self._uses.add(Use(_hashed(key), amount, time.time(), expiry))

    async def get(self, key: str) -> int:
        """The uses in the window that is open, 0 without one."""
        found = await self._database.read(partial(_find, key=_hashed(key)))
        return found.uses if found is not None and found.ends_at > time.time() else 0

    async def get_expiry(self, key: str) -> float:
        """When the window ends, in seconds since 1970; now without one."""
        found = await self._database.read(partial(_find, key=_hashed(key)))
        return found.ends_at if found is not None else time.time()

    async def check(self) -> bool:
        """Whether the database answers."""
        await self._database.check()
        return True

    async def reset(self) -> None:
        """Forget all uses, of all apis."""
        await self._database.write(partial(_forget, delete(RateCount)))

    async def clear(self, key: str) -> None:
        """Forget the uses of one limit by one caller."""
        await self._database.write(partial(_forget, delete(RateCount).where(col(RateCount.key) == _hashed(key))))

    def _count(self, session: Session, uses: Sequence[Use]) -> list[int]:
        now = time.time()
        if now >= self._clean_at:
            self._clean_at = now + CLEAN_SECONDS
            session.execute(delete(RateCount).where(col(RateCount.ends_at) < now - KEPT_SECONDS))
        return count(session, uses)


def count(session: Session, uses: Sequence[Use]) -> list[int]:
    """Counts each use, and answers with the sum so far for each, in order.

    Rows are taken in the order of their keys: two groups that want the same ones must not wait for each other.
    """
    sums = [0] * len(uses)
    in_mysql = session.get_bind().dialect.name == MYSQL
    for index, use in sorted(enumerate(uses), key=lambda one: one[1].key):
        ends_at = use.at + use.window_seconds
        values = {
            "key": use.key,
            "amount": use.amount,
            "now": use.at,
            "ends_at": ends_at,
            "latest_end": ends_at + JUMP_SECONDS,
        }
        if in_mysql:
            session.execute(_COUNT_IN_MYSQL, values)
            sums[index] = session.execute(select(col(RateCount.uses)).where(col(RateCount.key) == use.key)).scalar_one()
        else:
            sums[index] = session.execute(_COUNT, values).scalar_one()
    return sums


_IS_OPEN = "rate_counts.ends_at > :now AND rate_counts.ends_at <= :latest_end"
_COUNT = text(
    f"""
    INSERT INTO rate_counts (key, uses, ends_at) VALUES (:key, :amount, :ends_at)
    ON CONFLICT (key) DO UPDATE SET
        uses = excluded.uses + CASE WHEN {_IS_OPEN} THEN rate_counts.uses ELSE 0 END,
        ends_at = CASE WHEN {_IS_OPEN} THEN rate_counts.ends_at ELSE excluded.ends_at END
    RETURNING uses
    """  # noqa: S608 - constants
)
"""As text, because SQLite and PostgreSQL read it alike, and SQLAlchemy has an upsert for each."""

_COUNT_IN_MYSQL = text(
    f"""
    INSERT INTO rate_counts (`key`, uses, ends_at) VALUES (:key, :amount, :ends_at)
    ON DUPLICATE KEY UPDATE
        uses = :amount + CASE WHEN {_IS_OPEN} THEN uses ELSE 0 END,
        ends_at = CASE WHEN {_IS_OPEN} THEN ends_at ELSE :ends_at END
    """  # noqa: S608
)
"""What is set is set from left to right: `uses` sees the old `ends_at`."""


def _find(session: Session, key: str) -> RateCount | None:
    return session.execute(select(RateCount).where(col(RateCount.key) == key)).scalar_one_or_none()


def _forget(which: Delete, session: Session) -> None:
    session.execute(which)


def _hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _clocks_apart() -> float:
    """How far the wall clock is ahead of the one that never jumps."""
    return time.time() - time.monotonic()
