"""Turns at a database: how many may work on it at once, and how long one waits for a turn of one's own."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection

from shared.settings import SettingsError

BUSY_TIMEOUT_SECONDS = 2.0
"""How long a transaction waits for our own writer's turn, and then for another process to let go of a lock: both
together less than a caller of the intake is kept waiting (5 s)."""

Result = TypeVar("Result")


OFFERED = "sqlite:////path/to/file, postgresql+asyncpg://user@host/database or mysql+asyncmy://user@host/database"


def not_offered(setting: str) -> SettingsError:
    """What is said of a URL that names no database of ours."""
    return SettingsError(f"{setting} must be {OFFERED}: no other database is offered.")


class Turns(ABC):
    """Connections to one database, on each of which one piece of work runs at a time."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)
        self._closed = False

    async def run(self, work: Callable[[Connection], Result], *, at_leisure: bool = False) -> Result:
        """The result of `work`, which may take as long as it likes only `at_leisure`.

        Raises what it raises, or `TimeoutError` when no connection becomes free in time.
        """
        async with asyncio.timeout(BUSY_TIMEOUT_SECONDS):
            await self._free.acquire()
        if self._closed:
            self._free.release()
            raise TimeoutError("the database is being closed")
        running = self._start(work, at_leisure=at_leisure)
        # The turn ends with the work, not with a caller who goes away before.
        running.add_done_callback(lambda _: self._free.release())
        return await asyncio.shield(running)

    async def close(self) -> None:
        """Wait for what runs, and close the connections. Who still waits for a turn gets a `TimeoutError`."""
        self._closed = True
        await self._end()

    @abstractmethod
    def _start(self, work: Callable[[Connection], Result], *, at_leisure: bool) -> asyncio.Future[Result]:
        """Begin `work` on a connection that nobody else uses."""

    @abstractmethod
    async def _end(self) -> None:
        """Wait for what runs, and close the connections."""


@dataclass(frozen=True)
class Engines:
    """One database, open."""

    where: str
    """As messages name it, without any password."""
    writers: Turns
    readers: Turns
    """Each sees one snapshot, and can write nothing."""
    is_file: bool = False
    """Whether it is a file, at which threads work: a trip to one costs more than most looks."""
