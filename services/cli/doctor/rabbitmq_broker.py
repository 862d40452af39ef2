"""The RabbitMQ that is looked at, what is known of it so far, and how it is asked so that a refusal is an answer."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import AMQPChannelError
from pamqp.commands import Queue as QueueCommands
from yarl import URL

from services.cli.doctor.patient import RoomName
from shared.bus.rabbitmq.nodes import nodes_of
from shared.bus.rabbitmq.permissions import Permissions, to_consume, to_do_all, to_publish
from shared.topology import Topology

ANSWER_SECONDS = 2.0


@dataclass
class Broker:
    """`connection` is None where there is none. `there` and `missing` are filled by looking."""

    connection: AbstractConnection | None
    url: str
    topology: Topology
    rooms: tuple[RoomName, ...]
    there: dict[str, QueueCommands.DeclareOk] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def user(self) -> str:
        return URL(nodes_of(self.url)[0]).user or "guest"

    @property
    def vhost(self) -> str:
        return URL(nodes_of(self.url)[0]).path.removeprefix("/") or "/"

    @property
    def version(self) -> str:
        """As it told at connecting; nothing if it did not."""
        transport = self.connection.transport if self.connection is not None else None
        told = transport.connection.server_properties.get("version", "") if transport is not None else ""
        return told.decode() if isinstance(told, bytes) else str(told)

    @property
    def needed(self) -> Permissions:
        """By what the rooms that are looked at do."""
        consumes, publishes = RoomName.NOTIFIER in self.rooms, RoomName.API in self.rooms
        if consumes and publishes:
            return to_do_all(self.topology)
        return to_consume(self.topology) if consumes else to_publish(self.topology)

    @property
    def command(self) -> str:
        """What gives our user all that it needs."""
        return self.needed.command(self.user, self.vhost)

    @asynccontextmanager
    async def channel(self, *, confirms: bool = False) -> AsyncIterator[AbstractChannel]:
        """A channel of its own for each question: RabbitMQ closes the one on which it refuses something."""
        assert self.connection is not None
        async with self.connection.channel(publisher_confirms=confirms) as channel:
            yield channel


async def refusal(question: Awaitable[object]) -> AMQPChannelError | TimeoutError | None:
    """What RabbitMQ refused (403, 404, 406), or that it did not answer in time; None when it did as asked."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await question
    except (AMQPChannelError, TimeoutError) as error:
        return error
    return None
