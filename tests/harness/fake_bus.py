"""A bus in memory, for tests of what stands around a bus. It keeps no promise of its own: it does as it is told."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from shared.bus.protocol import BusUnavailable, Message, PublishFailed, QueueStats
from shared.topology import Queue


class FakeBus:
    """Takes what is published, in batches; hands out what is put into `arriving`, and ends with a None there."""

    system = "fake"

    def __init__(self) -> None:
        self.batches: list[list[Message]] = []
        self.openings = 0
        self.prefetch = 0
        self.arriving: asyncio.Queue[FakeDelivery | None] = asyncio.Queue()
        self.open_failures: list[BusUnavailable] = []
        """What the next openings raise, first one first."""
        self.stats_failures: list[BusUnavailable] = []
        self.is_renewed = False
        """Whether a queue was lost; answered once."""
        self.renewals_failures: list[BusUnavailable] = []
        self.publish_failures: list[Exception] = []
        """What the next batches raise, first one first. Of a `PublishFailed`, what is confirmed is taken."""

    @property
    def taken(self) -> list[str]:
        """The ids of all that was confirmed, in order, as often as it was."""
        return [message.id for batch in self.batches for message in batch]

    async def open(self) -> None:
        self.openings += 1
        if self.open_failures:
            raise self.open_failures.pop(0)

    async def publish(self, messages: Sequence[Message]) -> None:
        failure = self.publish_failures.pop(0) if self.publish_failures else None
        if isinstance(failure, PublishFailed):
            self.batches.append([message for message in messages if message.id in failure.confirmed])
        if failure is not None:
            raise failure
        self.batches.append(list(messages))

    async def stats(self, queue: Queue) -> QueueStats:
        if self.stats_failures:
            raise self.stats_failures.pop(0)
        return QueueStats(queue.name, ready=0, unacked=0, consumers=1, retrying={}, dead=0)

    @asynccontextmanager
    async def renewals(self, _queue: Queue) -> AsyncIterator[bool]:
        if not self.openings:
            raise BusUnavailable("The bus is not open.")
        if self.renewals_failures:
            raise self.renewals_failures.pop(0)
        yield self.is_renewed
        self.is_renewed = False

    @asynccontextmanager
    async def consume(self, _queue: Queue, prefetch: int) -> AsyncIterator[AsyncIterator[Any]]:
        self.prefetch = prefetch
        yield self._deliveries()

    async def _deliveries(self) -> AsyncIterator["FakeDelivery"]:
        while (delivery := await self.arriving.get()) is not None:
            yield delivery


class FakeDelivery:
    """A message in hand that remembers how it was settled."""

    redelivered = False

    def __init__(
        self,
        body: bytes,
        *,
        attempt: int = 1,
        redeliveries: int = 0,
        routing_key: str = "lead.created",
        unavailable: bool = False,
    ) -> None:
        self.message = Message("event-1", routing_key, body, correlation_id="asked-for-by-the-test")
        self.attempt = attempt
        self.redeliveries = redeliveries
        self.settled: list[tuple[Any, ...]] = []
        self._unavailable = unavailable

    async def ack(self) -> None:
        self._settle("ack")

    async def retry(self, delay_seconds: float, reason: str, *, count_attempt: bool = True) -> None:
        self._settle("retry", delay_seconds, reason, count_attempt)

    async def dead_letter(self, reason: str) -> None:
        self._settle("dead", reason)

    def _settle(self, *how: Any) -> None:
        if self._unavailable:
            raise BusUnavailable("the broker is away")
        self.settled.append(how)
