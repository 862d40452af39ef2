"""How what was opened at RabbitMQ is closed: with a goodbye that is answered, or without one. Opens nothing.

A broker that hangs answers none, and a room that is told to stop has several things to close: it must not wait for each
of them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aio_pika
from aio_pika.abc import AbstractChannel, TimeoutType
from aio_pika.exceptions import ConnectionClosed
from aiormq.abc import ExceptionType
from aiormq.connection import TCPTransportFactory, TLSTransportFactory, TransportFactory
from yarl import URL

CLOSE_SECONDS = 0.5
"""For the answer to a goodbye: a hundred times what it takes. What was not said is noticed when the socket closes."""


class Goodbyes:
    """The patience of one bus for their answers.

    Who left one unanswered is told no other until it has let us in again. So all that a room closes when it stops takes
    `CLOSE_SECONDS` together, however much it is and in whatever order.
    """

    def __init__(self) -> None:
        self._are_answered = True

    def may_be_said(self) -> None:
        """RabbitMQ has let us in."""
        self._are_answered = True

    async def is_answered(self, goodbye: "asyncio.Future[None]") -> bool:
        """False when the answer does not come in time: then the connection is to be closed, with which `goodbye` ends.

        Raises what `goodbye` raises.
        """
        goodbye.add_done_callback(_look_at)
        await asyncio.wait({goodbye}, timeout=CLOSE_SECONDS if self._are_answered else 0)
        if goodbye.done():
            goodbye.result()
            return True
        self._are_answered = False
        return False


@asynccontextmanager
async def leaving(channel: AbstractChannel) -> AsyncIterator[AbstractChannel]:
    """Closes the channel behind the work on it, unless that is cancelled: whoever does so closes its connection."""
    try:
        yield channel
    except asyncio.CancelledError:
        raise
    except BaseException:
        await channel.close()
        raise
    await channel.close()


class Connection(aio_pika.Connection):
    """A connection that can be dropped, and is when its end is not answered, or when it could not be opened.

    aio-pika leaves the latter to the collector, which may run on a thread without a loop: a warning for every try.
    """

    def __init__(self, url: URL, *, name: str, goodbyes: Goodbyes) -> None:
        super().__init__(url, client_properties={"connection_name": name})
        self._goodbyes = goodbyes
        self._socket = _Socket(TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory())
        self.kwargs["transport_factory"] = self._socket

    async def connect(self, timeout: TimeoutType = None) -> None:  # noqa: ASYNC109 - aio-pika's own signature
        """Raises aio-pika's errors."""
        try:
            await super().connect(timeout)
        except BaseException:
            with suppress(Exception):  # the reason is on its way
                await self.close()
            raise

    async def close(self, exc: ExceptionType | None = ConnectionClosed) -> None:
        """With what is open on it, whether RabbitMQ answers or not. Raises aio-pika's errors."""
        closing = asyncio.ensure_future(super().close(exc))
        try:
            await self._goodbyes.is_answered(closing)
        finally:
            self._socket.drop()
        await closing


class _Socket(TransportFactory):
    """Makes the transport as aiormq does, and keeps hold of it.

    Without that, aiormq would wait until the broker has taken all that it was sent before.
    """

    def __init__(self, factory: TransportFactory) -> None:
        self._factory = factory
        self._writer: asyncio.StreamWriter | None = None

    async def create(self, url: URL, **kwargs: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, self._writer = await self._factory.create(url, **kwargs)
        return reader, self._writer

    def drop(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()


def _look_at(goodbye: "asyncio.Future[None]") -> None:
    """What becomes of one that nobody waits for any more is no complaint of the loop."""
    if not goodbye.cancelled():
        goodbye.exception()
