"""The topology as RabbitMQ's declarations: which arguments each queue gets, and why. Publishes and consumes nothing.

The arguments mean the same on 3.10 and 4.x; defaults that changed between them are said explicitly
(https://www.rabbitmq.com/docs/quorum-queues, https://www.rabbitmq.com/docs/dlx).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed, DeliveryError
from aiormq.exceptions import ChannelAccessRefused
from pamqp.common import FieldTable

from shared.bus.protocol import BusUnavailable
from shared.bus.rabbitmq.closing import leaving
from shared.topology import DEAD_LETTER_DELIVERY_LIMIT, DELIVERY_LIMIT, Queue, RetryLevel, Topology

_ELECTION_WAITS_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""A quorum queue that somebody else is just declaring refuses messages until it has a leader."""


async def declare(connection: AbstractConnection, topology: Topology) -> None:
    """Exchange, queues, retry levels with their traces, dead letters and bindings; does nothing where all is there.

    What was in a queue that is missing is gone with it. Whoever declares it anew leaves a note of that before, for who
    published it (`EventBus.renewals`): it may be another room that finds out.

    A user who may not declare (403), as one who only publishes need not, is content when somebody else has. Raises
    `BusUnavailable` when one of them is missing then, or there with other arguments (406), aio-pika's errors for the
    rest.
    """
    try:
        for queue in topology.queues:
            if not await _is_whole(connection, queue):
                await _note_renewal(connection, queue)
        async with _channel(connection) as channel:
            await _declare(channel, topology)
    except ChannelAccessRefused as refused:
        await _find(connection, topology, refused)
        return
    async with _channel(connection) as channel:
        for queue in topology.queues:
            await _bind(channel, queue, topology.exchange)


async def _is_whole(connection: AbstractConnection, queue: Queue) -> bool:
    """Whether all that holds events is there. Notes alone hold none: that they are missing loses nothing.

    A retry level that leaves no trace was never there: the delays are a setting, and other ones have other names.
    """
    levels = [level.name for level in queue.retry_levels]
    unseen = [queue.name, queue.dead_letters, *levels]
    while missing := await _first_missing(connection, unseen):
        if missing not in levels or await _is_lost(connection, missing):
            return False
        unseen = unseen[unseen.index(missing) + 1 :]
    return True


async def _first_missing(connection: AbstractConnection, names: Sequence[str]) -> str | None:
    async with _channel(connection) as channel:
        for name in names:
            try:
                await channel.declare_queue(name, passive=True)
            except ChannelNotFoundEntity:
                return name
    return None


async def _is_lost(connection: AbstractConnection, level: str) -> bool:
    """Looks once more behind its trace: another room may have made both just now, first the queue."""
    async with _channel(connection) as channel:
        try:
            await channel.declare_exchange(level, passive=True)
        except ChannelNotFoundEntity:
            return False
    return await _first_missing(connection, [level]) is not None


async def _note_renewal(connection: AbstractConnection, queue: Queue) -> None:
    async with _channel(connection, confirms=True) as channel:
        async with _same_arguments(f'queue "{queue.renewals}"', f"rabbitmqctl delete_queue {queue.renewals}"):
            await channel.declare_queue(queue.renewals, durable=True, arguments=kept_arguments())
        note = Message(b"", delivery_mode=DeliveryMode.PERSISTENT)
        for wait_seconds in _ELECTION_WAITS_SECONDS:
            with suppress(DeliveryError):
                await channel.default_exchange.publish(note, queue.renewals)
                return
            await asyncio.sleep(wait_seconds)
        await channel.default_exchange.publish(note, queue.renewals)


async def _declare(channel: AbstractChannel, topology: Topology) -> None:
    async with _same_arguments(f'exchange "{topology.exchange}"', "in its management pages"):
        await channel.declare_exchange(topology.exchange, ExchangeType.TOPIC, durable=True)
    for queue in topology.queues:
        for name, arguments in arguments_of(queue):
            async with _same_arguments(f'queue "{name}"', f"rabbitmqctl delete_queue {name}"):
                await channel.declare_queue(name, durable=True, arguments=arguments)
        for level in queue.retry_levels:
            await _leave_trace(channel, level)


async def _leave_trace(channel: AbstractChannel, level: RetryLevel) -> None:
    """An exchange of the level's name, which nothing goes through, stays when the queue is lost.

    Made after the queue and before anything waits in it: so an exchange without its queue is a queue that was lost.
    """
    async with _same_arguments(f'exchange "{level.name}"', "in its management pages"):
        await channel.declare_exchange(level.name, ExchangeType.FANOUT, durable=True, internal=True)


async def _find(connection: AbstractConnection, topology: Topology, refused: ChannelAccessRefused) -> None:
    """Passive declarations need no permission (https://www.rabbitmq.com/docs/access-control#authorisation)."""
    async with _channel(connection) as channel:
        async with _there(f'exchange "{topology.exchange}"', refused):
            await channel.declare_exchange(topology.exchange, passive=True)
        for queue in topology.queues:
            for name, _ in arguments_of(queue):
                if name == queue.renewals:
                    continue  # who only publishes can do without: an older notifier beside it has made none
                async with _there(f'queue "{name}"', refused):
                    await channel.declare_queue(name, passive=True)


async def _bind(channel: AbstractChannel, queue: Queue, exchange: str) -> None:
    declared = await channel.get_queue(queue.name, ensure=False)
    for routing_key in queue.routing_keys:
        await declared.bind(exchange, routing_key)


@asynccontextmanager
async def _channel(connection: AbstractConnection, *, confirms: bool = False) -> AsyncIterator[AbstractChannel]:
    async with leaving(await connection.channel(publisher_confirms=confirms)) as channel:
        yield channel


def arguments_of(queue: Queue) -> list[tuple[str, FieldTable]]:
    """The names of what belongs to `queue`, each with its arguments, in the order in which one refers to the other."""
    levels = [(level.name, retry_arguments(queue, level)) for level in queue.retry_levels]
    kept = [(name, kept_arguments()) for name in (queue.renewals, queue.dead_letters)]
    return [*kept, (queue.name, work_arguments(queue)), *levels]


def work_arguments(queue: Queue) -> FieldTable:
    """A message that was delivered too often goes to the dead letters, confirmed, whatever the broker's version."""
    return {**_quorum(DELIVERY_LIMIT), **_dead_lettered_to(queue.dead_letters)}


def retry_arguments(queue: Queue, level: RetryLevel) -> FieldTable:
    """A message waits its time and goes back to `queue`. All wait equally long, so the oldest is always due first."""
    return {
        **_quorum(DEAD_LETTER_DELIVERY_LIMIT),
        **_dead_lettered_to(queue.name),
        "x-message-ttl": round(level.delay_seconds * 1000),
    }


def kept_arguments() -> FieldTable:
    """For dead letters and notes: kept until somebody decides.

    The limit is huge rather than off (-1): without a limit RabbitMQ puts a returned message at the end of the queue,
    and looking at dead letters would shuffle them.
    """
    return _quorum(DEAD_LETTER_DELIVERY_LIMIT)


def _quorum(delivery_limit: int) -> FieldTable:
    """`reject-publish`: a queue that a policy bounds says no to the publisher instead of dropping what it has."""
    return {"x-queue-type": "quorum", "x-delivery-limit": delivery_limit, "x-overflow": "reject-publish"}


def _dead_lettered_to(queue_name: str) -> FieldTable:
    """By the default exchange, and let go of only when the other queue has it (needs `reject-publish`)."""
    return {
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue_name,
        "x-dead-letter-strategy": "at-least-once",
    }


@asynccontextmanager
async def _same_arguments(what: str, how_to_delete: str) -> AsyncIterator[None]:
    try:
        yield
    except ChannelPreconditionFailed as error:
        raise BusUnavailable(
            f"RabbitMQ has the {what} with other settings than Leads needs: empty and delete it ({how_to_delete}), or "
            f"name another virtual host in LEADS_BROKER_URL; work then goes on by itself. It said: {error}."
        ) from error


@asynccontextmanager
async def _there(what: str, refused: ChannelAccessRefused) -> AsyncIterator[None]:
    try:
        yield
    except ChannelNotFoundEntity as error:
        raise BusUnavailable(
            f"The user of LEADS_BROKER_URL may not declare at RabbitMQ what is missing there, the {what}: start "
            f"the notifier, whose user may, or see `leads doctor`. It said: {refused}."
        ) from error
