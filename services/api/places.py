"""Places for uploads: how many may move at once, so that memory stays bounded whatever comes.

Whoever waits for its sender lends its place to others meanwhile: people on slow links keep nobody out, and neither do
those who only pretend to be.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from shared.problems import Problem, ProblemType

Sent = TypeVar("Sent")

WAIT_FOR_PLACE_SECONDS = 4.0
KEPT_WAITING_SECONDS = 0.1
RETRY_AFTER_SECONDS = 5
OPEN_PER_PLACE = 32
"""Uploads in all, moving or not, for each place: one that waits for its sender holds next to nothing."""


class Place:
    """The place of one upload, while it has one."""

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._held = False

    @property
    def is_to_be_had(self) -> bool:
        """Whether `take` does not have to wait."""
        return self._held or not self._free.locked()

    async def take(self) -> None:
        """Wait for a place, unless it is held already."""
        if not self._held:
            await self._free.acquire()
            self._held = True

    def leave(self) -> None:
        """Let somebody else have it."""
        if self._held:
            self._held = False
            self._free.release()

    async def lent(self, sender: Awaitable[Sent], deadline: float) -> Sent:
        """What the sender sends. If it has to be waited for, somebody else may have the place: `take` it again.

        Raises `TimeoutError` where that is not here by `deadline` (the loop's time).
        """
        loop = asyncio.get_running_loop()
        if deadline < loop.time() + KEPT_WAITING_SECONDS:
            async with asyncio.timeout_at(deadline):
                return await sender
        async with asyncio.timeout(None) as patience:
            timer = loop.call_later(KEPT_WAITING_SECONDS, self._kept_waiting, patience, deadline)
            try:
                return await sender
            finally:
                timer.cancel()

    def _kept_waiting(self, patience: asyncio.Timeout, deadline: float) -> None:
        self.leave()
        patience.reschedule(deadline)


class Places:
    """`count` places."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)
        self._open_max = count * OPEN_PER_PLACE
        self._open = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """A place for one upload. Raises `Problem` 503 when none becomes free in time."""
        if self._open >= self._open_max:
            raise _busy()
        place = Place(self._free)
        self._open += 1
        try:
            await _soon(place)
            yield place
        finally:
            self._open -= 1
            place.leave()


async def _soon(place: Place) -> None:
    if place.is_to_be_had:  # a timer costs more than a place
        await place.take()
        return
    try:
        async with asyncio.timeout(WAIT_FOR_PLACE_SECONDS):
            await place.take()
    except TimeoutError:
        raise _busy() from None


def _busy() -> Problem:
    detail = "Many people are sending their resumes right now. Please try again in a moment."
    return Problem(ProblemType.UNAVAILABLE, detail, retry_after_seconds=RETRY_AFTER_SECONDS)
