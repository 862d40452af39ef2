"""The open model: work comes at a fixed rate, whether or not what came before is done, so that no waiting is hidden."""

import asyncio
import time
from collections.abc import AsyncIterator


async def due(count: int, per_second: float) -> AsyncIterator[tuple[int, float]]:
    """The numbers from 0 up to `count`, each when it is due, with that moment (`time.monotonic`).

    Who is late gets the next ones at once: latency must be counted from when each was due.
    """
    began_at = time.monotonic()
    for number in range(count):
        due_at = began_at + number / per_second
        await asyncio.sleep(max(0.0, due_at - time.monotonic()))
        yield number, due_at
