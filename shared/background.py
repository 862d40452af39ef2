"""Loops that run beside a room's requests, for as long as the room does."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import structlog

REST_FACTOR = 20
"""What takes long to measure is measured seldom: at most 5 % of the time goes into it."""

AGAIN_SECONDS = 2.0
FAILURES_TOLD = 2

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


def measuring(
    what: str,
    measure: Callable[[], Awaitable[None]],
    *,
    every_seconds: float,
    untold: tuple[type[Exception], ...] = (),
) -> AbstractAsyncContextManager["asyncio.Task[None]"]:
    """`measured`, until the block ends."""
    return running(f"{what} gauges", measured(what, measure, every_seconds=every_seconds, untold=untold))


async def measured(
    what: str,
    measure: Callable[[], Awaitable[None]],
    *,
    every_seconds: float,
    untold: tuple[type[Exception], ...] = (),
) -> None:
    """Measure for ever, for the gauges. No room ends for a number: what fails is tried again within 2 s.

    It is told once, when it has failed twice: a hiccup is nobody's concern, and an outage is one line. `untold` is what
    those who work with the same thing tell anyway.
    """
    failures = 0
    while True:
        began_at = time.monotonic()
        try:
            await measure()
        except untold:
            await asyncio.sleep(min(every_seconds, AGAIN_SECONDS))
            continue
        except Exception as error:  # noqa: BLE001 - whatever is wrong with what is measured, the room works without
            failures += 1
            if failures == FAILURES_TOLD:
                log.warning("not measured", what=what, error=type(error).__name__, reason=str(error))
            await asyncio.sleep(min(every_seconds, AGAIN_SECONDS))
            continue
        if failures >= FAILURES_TOLD:
            log.info("measured again", what=what, failures=failures)
        failures = 0
        await asyncio.sleep(max(every_seconds, REST_FACTOR * (time.monotonic() - began_at)))


def _stop_room_if_failed(task: "asyncio.Task[None]") -> None:
    if task.cancelled():
        return
    error = task.exception()
    if error is not None:
        log.critical("background loop failed, stopping", loop=task.get_name(), exc_info=error)
        signal.raise_signal(signal.SIGTERM)
