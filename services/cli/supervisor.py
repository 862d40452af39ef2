"""Keeps all rooms running together: starts them at once, says when they are ready, stops them in order.

What the rooms are, and what comes before they start, stands in `up.py`; one room's life in `keeper.py`.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from services.cli import journal
from services.cli.keeper import Keeper
from services.cli.room import Room, until_ready
from services.cli.signals import StopSignals

STOP_SECONDS = 10.0
LAST_CALL_SECONDS = 8.5
"""A room that others need is told to stop by then, even while they still finish (a room takes 8 s at most)."""

EXIT_KILLED = 1


class Supervisor:
    """`announce` is called once, when every room has said that it is ready."""

    def __init__(self, rooms: Sequence[Room], signals: StopSignals, announce: Callable[[], None]) -> None:
        self._keepers = [Keeper(room) for room in rooms]
        self._signals = signals
        self._announce = announce
        self._status = 0
        self._over = asyncio.Event()

    async def run(self) -> int:
        """Runs until a stop is asked for or a room can not run.

        The exit status: 0 after a clean stop, 1 when a room had to be killed, or that of the room that can not run.
        """
        async with asyncio.TaskGroup() as tasks:
            for keeper in self._keepers:
                tasks.create_task(self._keep(keeper))
            watching = [tasks.create_task(self._await_ready()), tasks.create_task(self._await_signal())]
            await self._over.wait()
            hurrying = tasks.create_task(self._await_hurry())
            await self._stop()
            for task in (*watching, hurrying):
                task.cancel()
        journal.note("stopped")
        return self._status

    async def _keep(self, keeper: Keeper) -> None:
        status = await keeper.keep()
        self._status = self._status or status
        self._over.set()

    async def _await_ready(self) -> None:
        for keeper in self._keepers:  # in turn: a room that needs another is not asked before that one is up
            await until_ready(keeper.room)
            keeper.was_ready = True
        for keeper in self._keepers:
            keeper.settle()
        self._announce()

    async def _await_signal(self) -> None:
        await self._signals.asked.wait()
        self._over.set()

    async def _await_hurry(self) -> None:
        await self._signals.hurried.wait()
        self._kill("a second Ctrl-C")

    async def _stop(self) -> None:
        journal.note("stopping", hint="a second Ctrl-C kills at once")
        for keeper in self._keepers:
            keeper.hold()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await asyncio.gather(*(self._stop_one(keeper) for keeper in reversed(self._keepers)))
        except TimeoutError:
            self._kill(f"not gone {STOP_SECONDS:.0f} s after it was told to stop")
        for keeper in self._keepers:
            await keeper.gone.wait()

    async def _stop_one(self, keeper: Keeper) -> None:
        needing = [other.gone.wait() for other in self._keepers if other.room.name in keeper.room.needed_by]
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_CALL_SECONDS):
                await asyncio.gather(*needing)
        keeper.terminate()
        await keeper.gone.wait()

    def _kill(self, reason: str) -> None:
        for keeper in self._keepers:
            if not keeper.gone.is_set():
                journal.alarm("room killed", room=keeper.room.name, reason=reason)
                keeper.kill()
                self._status = self._status or EXIT_KILLED
