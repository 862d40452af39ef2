"""The bus on RabbitMQ (3.10 to 4.x): quorum queues, confirmed publishing, consumers that reconnect by themselves.

This file is the front: each verb is carried out by one of its neighbours.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Self

import structlog
from aio_pika.abc import AbstractIncomingMessage, AbstractQueue
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from shared.bus.protocol import DeadLetter, Delivery, Message, QueueStats
from shared.bus.rabbitmq.closing import Goodbyes
from shared.bus.rabbitmq.connection import Link, explain
from shared.bus.rabbitmq.consumer import Consumer, Source
from shared.bus.rabbitmq.dead_letters import DeadLetters
from shared.bus.rabbitmq.messages import encode
from shared.bus.rabbitmq.nodes import nodes_of
from shared.bus.rabbitmq.publisher import Letter, Publisher
from shared.repeats import Repeats
from shared.topology import Queue, Topology

_ANSWER_SECONDS = 10.0


class RabbitBus:
    """An `EventBus` whose promises are kept by RabbitMQ. `client_name` is how it shows in the broker's lists.

    Events and the copies of failed messages have a connection each, and every consumer its own: RabbitMQ stops reading
    from connections that publish when it runs out of memory or disk, and acks must still get through
    (https://www.rabbitmq.com/docs/alarms).
    """

    system = "rabbitmq"

    def __init__(self, url: str, topology: Topology, *, client_name: str) -> None:
        """Raises `ValueError` when `url` is not an amqp:// or amqps:// one; connects to nothing."""
        nodes_of(url)
        self._url = url
        self._topology = topology
        self._client_name = client_name
        self._goodbyes = Goodbyes()
        self._errands = Link(url, topology, name=f"{client_name} looks", goodbyes=self._goodbyes)
        self._events = Publisher(Link(url, topology, name=f"{client_name} publishes", goodbyes=self._goodbyes))
        self._copies = Publisher(Link(url, topology, name=f"{client_name} moves", goodbyes=self._goodbyes))
        self._dead_letters = DeadLetters(self._errands, self._copies)
        self._consumers: set[Consumer] = set()
        self._refusals = Repeats()
        self._log = structlog.get_logger(__name__).bind(client=client_name)

    async def open(self) -> None:
        """Connects and declares the topology. Raises `BusUnavailable` with one line that says what to mend."""
        await self._errands.declare()

    async def close(self) -> None:
        """Ends what still consumes, waits for what is being published, and closes all connections."""
        for consumer in tuple(self._consumers):
            await consumer.stop()
        await self._events.close()
        await self._copies.close()
        await self._errands.forget()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def publish(self, messages: Sequence[Message]) -> None:
        """All are in flight at once, within `PUBLISH_SECONDS`. Raises `PublishFailed` naming the confirmed ones."""
        await self._events.publish(
            Letter(self._topology.exchange, message.routing_key, encode(message)) for message in messages
        )

    @asynccontextmanager
    async def consume(self, queue: Queue, prefetch: int) -> AsyncIterator[AsyncIterator[Delivery]]:
        """Never raises for a broker that is away: it is logged, and iterating goes on trying.

        Raises `ValueError` when `prefetch` is not within 1 and 65,535.
        """
        source = Source(self._url, self._topology, self._client_name, self._goodbyes, queue, prefetch)
        consumer = Consumer(source, self._copies)
        self._consumers.add(consumer)
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()
            self._consumers.discard(consumer)

    @asynccontextmanager
    async def renewals(self, queue: Queue) -> AsyncIterator[bool]:
        """By the notes of whoever declared the queue anew: see `topology.declare`.

        A user that may not read them is told so in the log, and that nothing was lost: events must not wait for that.
        """
        async with self._errands.visit() as channel:
            try:
                last = await _last_of(await channel.get_queue(queue.renewals, ensure=False))
            except ChannelAccessRefused as refused:
                if self._refusals.is_news(str(refused)):
                    self._log.warning("cannot tell whether a queue was lost", reason=explain(refused, self._url))
                last = None
            except ChannelNotFoundEntity:
                last = None  # an older notifier makes no such queue
            yield last is not None
            if last is not None:
                await last.channel.basic_ack(last.delivery_tag or 0, multiple=True)

    async def stats(self, queue: Queue) -> QueueStats:
        """By passive declarations, which tell the ready and the consumers but not what consumers hold."""
        async with self._errands.visit() as channel:
            counts = {}
            for name in (queue.name, queue.dead_letters, *(level.name for level in queue.retry_levels)):
                declared = await channel.declare_queue(name, passive=True, timeout=_ANSWER_SECONDS)
                counts[name] = declared.declaration_result
        return QueueStats(
            queue=queue.name,
            ready=counts[queue.name].message_count or 0,
            unacked=None,
            consumers=counts[queue.name].consumer_count or 0,
            retrying={level.name: counts[level.name].message_count or 0 for level in queue.retry_levels},
            dead=counts[queue.dead_letters].message_count or 0,
        )

    def listing(self, queue: Queue) -> None:
        """AMQP has no way to look into a queue but to take its messages out."""
        del queue

    async def peek(self, queue: Queue, limit: int) -> list[DeadLetter]:
        return await self._dead_letters.peek(queue, limit)

    async def replay(self, queue: Queue, ids: Sequence[str] | None = None) -> int:
        return await self._dead_letters.replay(queue, ids)

    async def purge(self, queue: Queue, ids: Sequence[str] | None = None) -> int:
        return await self._dead_letters.purge(queue, ids)


async def _last_of(notes: AbstractQueue) -> AbstractIncomingMessage | None:
    """Takes all that there are, unsettled; settling the last one settles all."""
    last = None
    while (note := await notes.get(fail=False, timeout=_ANSWER_SECONDS)) is not None:
        last = note
    return last
