"""Connections to RabbitMQ, and what to tell people when there is none. Knows nothing of events or consumers."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.connection import make_url
from aio_pika.exceptions import (
    CONNECTION_EXCEPTIONS,
    AuthenticationError,
    ChannelNotFoundEntity,
    DeliveryError,
    ProbableAuthenticationError,
    PublishError,
)
from aiormq.exceptions import ChannelAccessRefused

from shared.bus.protocol import BusUnavailable
from shared.bus.rabbitmq.closing import Connection, Goodbyes, leaving
from shared.bus.rabbitmq.nodes import nodes_of, password_free
from shared.bus.rabbitmq.topology import declare
from shared.topology import Topology

HEARTBEAT_SECONDS = 3
"""A silent peer is noticed within 13 s here (aiormq waits three times this and one more, and looks every second) and
within 9 s at the broker, which looks at every interval and minds the second. Below five RabbitMQ's manual warns of
false alarms (https://www.rabbitmq.com/docs/heartbeats): one costs a new connection, and aiormq beats every second."""

CONNECT_SECONDS = 10.0
"""For TCP, TLS, login and the declarations together."""

_NOT_ALLOWED = 530
"""The reply code for a virtual host that is not there or not for this user (AMQP 0-9-1, section 1.2)."""


class Link:
    """One plain connection, opened with the topology declared when it is first needed, forgotten after an error.

    Declaring at every opening heals a broker that came back without its data. It is not `connect_robust`, so that a
    channel in hand is either the one that was asked or closed, never quietly another one.
    """

    def __init__(self, url: str, topology: Topology, *, name: str, goodbyes: Goodbyes) -> None:
        self.url = url
        self._goodbyes = goodbyes
        self._topology = topology
        self._name = name
        self._connection: AbstractConnection | None = None
        self._opening = asyncio.Lock()

    async def connection(self) -> AbstractConnection:
        """The open connection. Raises `BusUnavailable`."""
        async with self._opening:
            if self._connection is None or not self._connection.connected.is_set():
                await self.forget()
                self._connection = await connect(self.url, self._topology, name=self._name, goodbyes=self._goodbyes)
            return self._connection

    async def declare(self) -> None:
        """Connect, and declare the topology also where a connection stood already. Raises `BusUnavailable`."""
        connection = await self.connection()
        async with self._forgotten_if_cut_short():
            with clear_errors(self.url):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await declare(connection, self._topology)

    async def channel(self, *, confirms: bool = False) -> AbstractChannel:
        """A new channel; with `confirms`, one on which an unroutable message raises."""
        connection = await self.connection()
        with clear_errors(self.url):
            async with asyncio.timeout(CONNECT_SECONDS):
                return await connection.channel(publisher_confirms=confirms, on_return_raises=confirms)

    @asynccontextmanager
    async def visit(self) -> AsyncIterator[AbstractChannel]:
        """A channel for one errand. Closing it returns every message that was taken and not settled.

        Raises `BusUnavailable`, also for what aio-pika raises inside; the connection is forgotten then.
        """
        async with self._forgotten_if_cut_short():
            channel = await self.channel()
            with clear_errors(self.url):
                async with leaving(channel):
                    yield channel

    @asynccontextmanager
    async def _forgotten_if_cut_short(self) -> AsyncIterator[None]:
        """What is left open on a connection goes with it."""
        try:
            yield
        except (BusUnavailable, asyncio.CancelledError):
            await self.forget()
            raise

    async def forget(self) -> None:
        """Close the connection, if there is one; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await close(connection)


async def connect(url: str, topology: Topology, *, name: str, goodbyes: Goodbyes) -> AbstractConnection:
    """A plain connection called `name` in RabbitMQ's lists, with the topology declared. Raises `BusUnavailable`."""
    with clear_errors(url):
        async with asyncio.timeout(CONNECT_SECONDS):
            connection = await dial(url, name=name, goodbyes=goodbyes)
            try:
                await declare(connection, topology)
            except BaseException:
                await close(connection)
                raise
            goodbyes.may_be_said()
            return connection


async def dial(
    url: str, *, name: str, goodbyes: Goodbyes, within_seconds: float = CONNECT_SECONDS
) -> AbstractConnection:
    """A plain connection called `name` to a node that answers, with nothing declared.

    Nodes are tried in an order that differs each time: connections spread over them, and who comes back after an error
    seldom meets the same one. Each has its share of `within_seconds`. Raises aio-pika's errors, those of the last node.
    """
    nodes = nodes_of(url)
    share_seconds = within_seconds / len(nodes)
    *others, last = random.sample(nodes, len(nodes))
    for node in others:
        try:
            return await _dial_one(node, name, goodbyes, share_seconds)
        except (AuthenticationError, ProbableAuthenticationError):
            raise  # the nodes of a cluster know the same users
        except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
            structlog.get_logger(__name__).info("bus node unavailable", reason=explain(error, node))
    return await _dial_one(last, name, goodbyes, share_seconds)


async def _dial_one(node: str, name: str, goodbyes: Goodbyes, seconds: float) -> AbstractConnection:
    connection = Connection(make_url(node, heartbeat=HEARTBEAT_SECONDS), name=name, goodbyes=goodbyes)
    async with asyncio.timeout(seconds):
        await connection.connect()
    return connection


async def close(connection: AbstractConnection) -> None:
    """Close within `CLOSE_SECONDS`; never raises for what the broker does or does not do."""
    try:
        with clear_errors(str(connection)):
            await connection.close()
    except BusUnavailable as error:
        structlog.get_logger(__name__).debug("bus close failed", reason=str(error))


@contextmanager
def clear_errors(url: str) -> Iterator[None]:
    """Turns what aio-pika may raise into `BusUnavailable` with one line that says what to do."""
    try:
        yield
    except BusUnavailable:
        raise
    except asyncio.CancelledError as error:
        # aiormq also cancels what waits on a connection that went away. Only a cancellation that somebody asked for
        # may pass as one: otherwise a lost broker would end the worker in silence.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise BusUnavailable(explain(error, url)) from error
    except (*CONNECTION_EXCEPTIONS, TimeoutError) as error:
        raise BusUnavailable(explain(error, url)) from error


def explain(error: BaseException, url: str) -> str:
    """One line for whoever can mend it, without the password."""
    if isinstance(error, BusUnavailable):
        return str(error)
    where = f"LEADS_BROKER_URL ({password_free(url)})"
    said = " ".join(str(error).split()) or "the connection was lost"
    for kinds, line in _ADVICE:
        if isinstance(error, kinds):
            return line.format(where=where, said=said)
    if "Connection.OpenOk" in said or error.args[:1] == (_NOT_ALLOWED,):
        # aiormq 7.2 drops what the broker says when it closes instead of opening: only that it did is left to tell.
        return (
            f"RabbitMQ does not open the virtual host of {where}: see whether it exists (rabbitmqctl add_vhost) and "
            "whether this user may use it (rabbitmqctl set_permissions)."
        )
    return f"RabbitMQ cannot be reached at {where}: {said}."


_ADVICE = (
    (PublishError, "No queue at RabbitMQ takes the message ({said}): see whether its queue is bound to the exchange."),
    (DeliveryError, "RabbitMQ refused the message ({said}): see whether a queue is full or a cluster has no majority."),
    ((ProbableAuthenticationError, AuthenticationError), "RabbitMQ refuses the user or the password of {where}."),
    (
        ChannelAccessRefused,
        "The user of {where} lacks a permission at RabbitMQ ({said}): `leads doctor` tells which command gives it.",
    ),
    (
        ChannelNotFoundEntity,
        "A queue or the exchange is gone from RabbitMQ ({said}): the next try declares it again.",
    ),
    (TimeoutError, "RabbitMQ did not answer in time at {where}: see whether it is out of memory or disk."),
)
