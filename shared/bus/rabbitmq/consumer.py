"""Consuming from RabbitMQ: one connection per consumer, made anew when it is lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Self

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

from shared.bus.protocol import BusUnavailable, Delivery
from shared.bus.rabbitmq.closing import Goodbyes
from shared.bus.rabbitmq.connection import CONNECT_SECONDS, clear_errors, close, connect
from shared.bus.rabbitmq.delivery import Pause, RabbitDelivery
from shared.bus.rabbitmq.publisher import Publisher
from shared.repeats import Repeats
from shared.topology import Queue, Topology

_MOST_PREFETCH = 65_535
"""`basic.qos` carries it in 16 bits, and 0 would mean "no bound" (AMQP 0-9-1, section 1.8.3.1)."""


@dataclass(frozen=True)
class Source:
    """What a consumer needs to know to connect, and to connect again."""

    url: str
    topology: Topology
    client_name: str
    goodbyes: Goodbyes
    queue: Queue
    prefetch: int

    def __post_init__(self) -> None:
        if not 1 <= self.prefetch <= _MOST_PREFETCH:
            raise ValueError(f"prefetch must be 1 to {_MOST_PREFETCH}, not {self.prefetch}")


class Session:
    """One connection's worth of consuming. Its deliveries are of use while it lives, and of none after."""

    def __init__(self, connection: AbstractConnection, source: Source) -> None:
        self.ended_by = "the connection was closed"
        self._connection = connection
        self._goodbyes = source.goodbyes
        self._channel: AbstractChannel | None = None
        self._cancel: Callable[[], Awaitable[object]] | None = None
        self._ended = False
        # At most `prefetch` messages are unsettled; None says that the session has ended.
        self._inbox: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue(source.prefetch + 1)

    @classmethod
    async def start(cls, source: Source) -> Self:
        """Connects and consumes. Raises `BusUnavailable`."""
        name = f"{source.client_name} consumes {source.queue.name}"
        connection = await connect(source.url, source.topology, name=name, goodbyes=source.goodbyes)
        session = cls(connection, source)
        try:
            with clear_errors(source.url):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await session._consume(source)
        except BaseException:
            await close(connection)
            raise
        return session

    async def next(self) -> AbstractIncomingMessage | None:
        """The next message; None when the session has ended."""
        return None if self._ended else await self._inbox.get()

    def end(self, reason: str) -> None:
        """What lies in the inbox is no longer ours: the broker hands it to somebody else."""
        if self._ended:
            return
        self._ended = True
        self.ended_by = reason
        while not self._inbox.empty():
            self._inbox.get_nowait()
        self._inbox.put_nowait(None)

    async def close(self) -> None:
        """Ends the flow, then returns what is unsettled to the queue. Raises nothing for a lost broker.

        A consumer that is cancelled is gone at once; one whose connection ends is only when the broker notices.
        """
        self.end("the consumer stopped")
        try:
            with suppress(BusUnavailable), clear_errors(""):
                await self._goodbyes.is_answered(asyncio.ensure_future(self._leave()))
        finally:
            await close(self._connection)

    async def _leave(self) -> None:
        if self._channel is None or self._channel.is_closed:
            return
        if self._cancel is not None:
            await self._cancel()
        await self._channel.close()

    async def _consume(self, source: Source) -> None:
        # Kept, because aio-pika drops a channel that nobody refers to.
        channel = self._channel = await self._connection.channel(publisher_confirms=False)
        channel.close_callbacks.add(self._on_channel_closed)
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(self._on_cancelled)
        await channel.set_qos(prefetch_count=source.prefetch)
        queue = await channel.get_queue(source.queue.name, ensure=False)
        self._cancel = partial(queue.cancel, await queue.consume(self._on_message))

    async def _on_message(self, incoming: AbstractIncomingMessage) -> None:
        if not self._ended:
            self._inbox.put_nowait(incoming)

    async def _on_channel_closed(self, _: object, error: BaseException | None) -> None:
        self.end(str(error) or "the connection was lost")

    async def _on_cancelled(self, _: object) -> None:
        self.end("the broker ended the consumer, as it does when a queue is deleted or moves")


class Consumer(AsyncIterator[Delivery]):
    """The endless stream of a queue's deliveries, over as many sessions as it takes.

    A session is opened by whoever waits for the next delivery, so no task of its own could die unseen.
    """

    def __init__(self, source: Source, copies: Publisher) -> None:
        self._source = source
        self._copies = copies
        self._session: Session | None = None
        self._stopped = asyncio.Event()
        self._turn = asyncio.Lock()
        self._pause = Pause()
        self._repeats = Repeats()
        self._log = structlog.get_logger(__name__).bind(queue=source.queue.name, client=source.client_name)

    async def start(self) -> None:
        """Tries to connect, so that a consumer is there as soon as it can be. Without a broker, iterating tries on."""
        await self._connect()

    async def stop(self) -> None:
        """Ends the iteration and returns what is unsettled to the queue."""
        self._stopped.set()
        await self._drop_session()

    async def __anext__(self) -> Delivery:
        async with self._turn:
            while not self._stopped.is_set():
                incoming = await self._receive()
                if incoming is not None:
                    self._pause.reset()
                    self._repeats.over()
                    return RabbitDelivery(incoming, self._source.queue, self._copies)
                await self._recover()
                _be_cancelled()
        raise StopAsyncIteration

    async def _receive(self) -> AbstractIncomingMessage | None:
        if self._session is None:
            await self._connect()
            _be_cancelled()
        return await self._session.next() if self._session is not None else None

    async def _connect(self) -> None:
        try:
            session = await Session.start(self._source)
        except BusUnavailable as error:
            self._say(str(error))
            return
        if self._stopped.is_set():
            await session.close()
        else:
            self._session = session

    async def _recover(self) -> None:
        if self._session is not None and not self._stopped.is_set():
            self._say(self._session.ended_by)
        await self._drop_session()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause.next_seconds()):
                await self._stopped.wait()

    def _say(self, reason: str) -> None:
        if self._repeats.is_news(reason):
            self._log.warning("bus unavailable", reason=reason)

    async def _drop_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _be_cancelled() -> None:
    """Raises `CancelledError` if somebody asked for that and it was lost on the way out of a connection.

    That has been seen, about once in a hundred times that a queue went away. A worker that waits on would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
