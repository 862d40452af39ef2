"""What Ctrl-C, SIGTERM and SIGHUP mean to `leads up`: stop; and a second Ctrl-C: stop at once."""

import asyncio
import signal
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

SAME_KEYPRESS_SECONDS = 0.3
"""timeout(1) and shells signal a process and then its group: two that come together were one wish."""

Answer = TypeVar("Answer")


class Stopped(Exception):  # noqa: N818
    """The person asked to stop before the work was done."""


class StopSignals:
    """Listens from its making on; make it inside the running event loop."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hurried = asyncio.Event()
        self._asked_at = 0.0
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._heard, number)

    async def unless_asked(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        """The answer of `work`; when a stop is asked for first, `work` is cancelled and `Stopped` raised."""
        task = asyncio.create_task(work)
        asked = asyncio.create_task(self.asked.wait())
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        raise Stopped

    def _heard(self, number: signal.Signals) -> None:
        if not self.asked.is_set():
            self._asked_at = time.monotonic()
            self.asked.set()
        elif number == signal.SIGINT and time.monotonic() - self._asked_at > SAME_KEYPRESS_SECONDS:
            self.hurried.set()
