"""A nemesis that lets rooms die at steps of a lead's way, one death after another, and starts them again at the end."""

import asyncio
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from signal import SIGKILL

from tests.chaos.rig import Nemesis, Rig
from tests.chaos.storm import Storm
from tests.harness.crash_points import REACHED, CrashPoint
from tests.harness.deployment import STOP_SECONDS

COMES_THERE_SECONDS = 90.0
"""A room that was not at its step by then is not going to be."""

PAUSE_SECONDS = 0.5
"""Between two leads of a client. They come until the last death, and what a dying notifier left is sent afterwards."""

ONE_AT_A_TIME = {"LEADS_NOTIFIER_CONCURRENCY": "1"}
"""So that nothing but the e-mails of the event at the step is under way when the notifier dies there."""

LOOK_AGAIN_SECONDS = 0.02


class Crashes:
    """The deaths to come. `exit_seconds` has how long each room took that was told to stop at its step.

    `heal` mends what was broken beside them, before a room is started again to stay.
    """

    def __init__(self, rig: Rig, points: Sequence[CrashPoint], heal: Callable[[], object] = lambda: None) -> None:
        self.exit_seconds: list[float] = []
        self._deployment = rig.deployment
        self._points = points
        self._heal = heal

    @property
    def nemesis(self) -> Nemesis:
        """Each room dies at its own points in turn, whatever the others do meanwhile."""

        async def nemesis(_storm: Storm) -> int:
            by_room = itertools.groupby(self._points, key=lambda point: point.room)
            await asyncio.gather(*(self._die(room, list(points)) for room, points in by_room))
            return len(self._points)

        return nemesis

    async def _die(self, room: str, points: Sequence[CrashPoint]) -> None:
        """The room is at rest when it is taken away to be started with its first point."""
        self._deployment.kill(room)
        try:
            for point in points:
                self._deployment.launch(room, point.command, ONE_AT_A_TIME if point.signal is SIGKILL else None)
                await self._reached(point)
                await self._ended(point)
        finally:
            self._heal()
            self._deployment.kill(room)  # if it did not come to its step
            await self._deployment.restart(room)

    async def _reached(self, point: CrashPoint) -> None:
        deadline = time.monotonic() + COMES_THERE_SECONDS
        with self._deployment.log_file(point.room).open("rb") as log:
            log.seek(0, os.SEEK_END)
            while True:
                status = self._deployment.processes[point.room].poll()
                if any(_tells_of(line, point) for line in log.readlines()):
                    return
                assert status is None, f"{point}: ended with {status} before it came there"
                assert time.monotonic() < deadline, f"{point}: was never passed"
                await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _ended(self, point: CrashPoint) -> None:
        """Killed, or ended by itself with 0 when it was told to stop."""
        began_at = time.monotonic()
        status = await asyncio.to_thread(self._deployment.processes[point.room].wait, STOP_SECONDS)
        if point.signal is SIGKILL:
            assert status == -SIGKILL, f"{point}: ended with {status}"
        else:
            assert status == 0, f"{point}: ended with {status}"
            self.exit_seconds.append(time.monotonic() - began_at)


def _tells_of(line: bytes, point: CrashPoint) -> bool:
    if REACHED.encode() not in line:
        return False
    return bool(json.loads(line) == {"event": REACHED, "step": point.step, "pass": point.passes})
