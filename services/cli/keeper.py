"""Keeps one room running: starts it, starts it again with back-off when it crashes, stops it when told."""

import asyncio
import os
import signal
import time
from contextlib import suppress

from services.cli import journal
from services.cli.pinning import settle
from services.cli.room import Room

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 10.0
STEADY_SECONDS = 30.0
"""A room that lived this long was well: its next crash is a first one again."""


class Keeper:
    """One room and its process of the moment."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.was_ready = False
        self.gone = asyncio.Event()
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    async def keep(self) -> int:
        """Runs the room until told to stop (answers 0), or until it says that it can not run (69 or 78, sysexits.h)."""
        try:
            return await self._keep()
        finally:
            self.kill()
            self.gone.set()

    def settle(self) -> None:
        """All rooms are ready: this one settles on its processors. When it is started again, it starts there."""
        if self.room.processors and self._process is not None and self._process.returncode is None:
            settle(self._process.pid, self.room.processors)

    def hold(self) -> None:
        """From now on a room that ends is not started again."""
        self._stopping.set()

    def terminate(self) -> None:
        """Ask the room to finish what it began and end (SIGTERM)."""
        self.hold()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the room, and whatever it started, now (SIGKILL)."""
        self.hold()
        self._signal(signal.SIGKILL)

    async def _keep(self) -> int:
        delay = 0.0
        while not self._stopping.is_set():
            started_at = time.monotonic()
            status = await self._live()
            if self._stopping.is_set():
                break
            if status == os.EX_CONFIG or (status == os.EX_UNAVAILABLE and not self.was_ready):
                return status
            delay = next_delay(delay, time.monotonic() - started_at)
            journal.warn("room ended, starting it again", room=self.room.name, delay_seconds=delay, **_cause(status))
            await self._pause(delay)
        return 0

    async def _live(self) -> int:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self.room.tethered_command(self.room.processors if self.was_ready else ()),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:  # no process or memory left: this may pass
            journal.alarm("room cannot be started", room=self.room.name, reason=error.strerror)
            return os.EX_OSERR
        if self._stopping.is_set():
            self.terminate()
        return await self._process.wait()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)


def next_delay(previous_seconds: float, lived_seconds: float) -> float:
    """How long to wait before a room that lived so long is started again: doubling, up to 10 s."""
    if not previous_seconds or lived_seconds >= STEADY_SECONDS:
        return FIRST_DELAY_SECONDS
    return min(2 * previous_seconds, LONGEST_DELAY_SECONDS)


def _cause(status: int) -> dict[str, int | str]:
    """A negative status is the signal that ended the process (subprocess documentation, `returncode`)."""
    return {"signal": signal.Signals(-status).name} if status < 0 else {"exit_code": status}
