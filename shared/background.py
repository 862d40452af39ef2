"""Loops that run beside a room's requests, for as long as the room does."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import structlog

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def running(name: str, loop: Coroutine[Any, Any, None]) -> AsyncIterator["asyncio.Task[None]"]:
    """Run `loop` until the block ends; the task is there to be waited for.

    A loop that fails takes its room down, to be started afresh: a room that answers while its relay lies dead would
    look well and lose time for everybody.
    """
    task = asyncio.create_task(loop, name=name)
    task.add_done_callback(_stop_room_if_failed)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _stop_room_if_failed(task: "asyncio.Task[None]") -> None:
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        log.critical("background loop failed, stopping", loop=task.get_name(), exc_info=error)
        signal.raise_signal(signal.SIGTERM)
