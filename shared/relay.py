"""The relay drains the outbox onto the bus: woken by a commit, swept as a safety net, backed off when the bus is away.

An event is marked only after the bus confirmed it. A crash in between sends it again with the same id, which consumers
know; nothing is ever marked on hope.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from functools import partial

import structlog

from shared import outbox
from shared.bus.protocol import BusUnavailable, EventBus, PublishFailed
from shared.database import Database
from shared.metrics import (
    EVENTS_PUBLISHED,
    OUTBOX_OLDEST_SECONDS,
    OUTBOX_UNPUBLISHED,
    PUBLISH_FAILURES,
    PUBLISH_SECONDS,
)
from shared.outbox import Waiting
from shared.problems import Problem
from shared.repeats import Repeats
from shared.topology import Queue
from shared.tracing.messages import publishing
from shared.tracing.spans import named_in

BATCH = 500
"""Most events in flight at once: enough to hide the round trip, few enough to send again without a thought."""

SWEEP_SECONDS = 1.0
"""How long an event may lie if the wake-up was lost, for instance because another process committed it."""

GATHER_SECONDS = 0.01
BURST_GATHER_SECONDS = 0.05
"""A short wait after a wake-up, so that a burst of commits shares one publish: longer while one is going on."""

BURST_PER_SECOND = 400
"""So many events are a burst, counted over the wait that they shared, long or short."""

BACK_OFF_SECONDS = (0.1, 1.0)
"""First and longest wait after a failed publish; full jitter in between. A returned broker is found within 1 s."""

LOSSES_SECONDS = 5.0
"""How often it asks whether a queue was lost."""

UNPUBLISHED_AT_ONCE = 2_000
"""Events of one transaction: the intake commits in between."""

log = structlog.get_logger()


class Relay:
    """One relay. Several may run: a doubled event is the consumers' ordinary case."""

    def __init__(self, database: Database, bus: EventBus, queues: Sequence[Queue] = ()) -> None:
        """What is lost with one of these `queues` is published again."""
        self._queues = queues
        self._database = database
        self._bus = bus
        self._woken = asyncio.Event()
        self._opened = False
        self._opening = asyncio.Lock()
        self._failures = 0
        self._repeats = Repeats()
        self.trouble: str | None = None
        """Why the bus did not take or tell anything the last time, for `/readyz`; None when it did."""

    def wake(self) -> None:
        """An event was just committed."""
        self._woken.set()

    async def run(self) -> None:
        """Drain for ever; returns only by cancellation, which leaves every event where it was or marked."""
        look_at, gather_seconds = 0.0, GATHER_SECONDS
        while True:
            try:
                if time.monotonic() >= look_at:
                    await self.make_good()
                    look_at = time.monotonic() + LOSSES_SECONDS
                sent = await self.drain_once()
            except (BusUnavailable, Problem) as error:
                await self._back_off(error)
                continue
            if sent or self._failures:
                self._recovered()
            if sent < BATCH:
                is_burst = sent >= BURST_PER_SECOND * gather_seconds
                gather_seconds = BURST_GATHER_SECONDS if is_burst else GATHER_SECONDS
                await self._sleep(gather_seconds)

    async def drain_once(self) -> int:
        """Publish and mark one batch; returns how many. Raises `BusUnavailable` after marking what was confirmed."""
        waiting = await self._database.read(partial(outbox.unpublished, limit=BATCH))
        if not waiting:
            return 0
        await self._open()
        try:
            with publishing(self._bus.system, [one.message for one in waiting]) as messages, PUBLISH_SECONDS.time():
                sent = [Waiting(message, one.since) for message, one in zip(messages, waiting, strict=True)]
                await self._bus.publish(messages)
        except PublishFailed as error:
            self._opened = False  # the next try declares again what the broker may have lost
            await self._mark([one for one in sent if one.message.id in error.confirmed])
            raise
        await self._mark(sent)
        return len(sent)

    async def measure(self) -> None:
        """Set the gauges of the outbox. Raises `Problem` when the database is away."""
        found = await self._database.read(outbox.backlog)
        OUTBOX_UNPUBLISHED.set(found.events)
        OUTBOX_OLDEST_SECONDS.set(found.oldest_age_seconds)

    async def check(self) -> None:
        """Raises when the bus did not take the last batch."""
        if self.trouble:
            raise RuntimeError(f"events wait in the outbox: {self.trouble}")

    async def _mark(self, confirmed: Sequence[Waiting]) -> None:
        if not confirmed:
            return
        await self._database.write(partial(outbox.mark_published, confirmed=confirmed))
        for message in (one.message for one in confirmed):
            EVENTS_PUBLISHED.labels(message.routing_key).inc()
            log.info(
                "event published",
                type=message.routing_key,
                event_id=message.id,
                correlation_id=message.correlation_id,
                **named_in(message.headers),
            )

    async def look(self, queue: Queue) -> None:
        """Ask the bus for this queue: an api to which nobody sends a lead must know, too, that its broker is away."""
        if self._failures:
            return  # `run` is at it
        try:
            await self._open()
            await self._bus.stats(queue)
        except BusUnavailable as error:
            self._tell(error)
        else:
            self._recovered()

    async def make_good(self) -> None:
        """If a queue was lost, have published again what it may have had.

        Raises `BusUnavailable`, or `Problem` when the database is away; the bus then tells of the loss again.
        A batch that is under way, here or in another api, is published again, too, whatever is confirmed of it.
        """
        await self._open()
        for queue in self._queues:
            async with self._bus.renewals(queue) as renewed:
                if renewed:
                    await self._publish_all_again(queue)

    async def _publish_all_again(self, queue: Queue) -> None:
        """All of the last 30 days: nobody knows what the lost queue had, and consumers know what they have handled."""
        count, last = 0, ""
        while step := await self._database.write(
            partial(outbox.publish_all_again, after=last, limit=UNPUBLISHED_AT_ONCE)
        ):
            count, last = count + step.events, step.last
        if count:
            log.warning(
                "a queue was lost with what was in it, publishing all events again", queue=queue.name, events=count
            )

    async def _open(self) -> None:
        async with self._opening:
            if not self._opened:
                await self._bus.open()
                self._opened = True

    async def _sleep(self, gather_seconds: float) -> None:
        try:
            async with asyncio.timeout(SWEEP_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()
        await asyncio.sleep(gather_seconds)

    async def _back_off(self, error: Exception) -> None:
        self._failures += 1
        PUBLISH_FAILURES.inc()
        self._tell(error)
        first, longest = BACK_OFF_SECONDS
        ceiling = min(longest, first * 2 ** min(self._failures, 10))
        await asyncio.sleep(random.uniform(first, ceiling))  # noqa: S311 - jitter, not a secret

    def _tell(self, error: Exception) -> None:
        if self._repeats.is_news(str(error)):
            log.warning("bus unavailable, events wait in the outbox", reason=str(error))
        self.trouble = str(error)

    def _recovered(self) -> None:
        if self.trouble is not None:
            log.info("bus available again, draining the outbox", failures=self._failures)
        self._failures = 0
        self._repeats.over()
        self.trouble = None
