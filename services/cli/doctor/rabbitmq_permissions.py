"""What our user may do at RabbitMQ, found out by doing it in a way that leaves nothing behind."""

import asyncio
from contextlib import suppress

import aio_pika
from aio_pika.abc import AbstractConnection
from aiormq.exceptions import AMQPConnectionError, ChannelAccessRefused

from services.cli.doctor.rabbitmq_broker import ANSWER_SECONDS, Broker, refusal
from services.cli.doctor.report import Finding, failed, ok
from shared.bus.rabbitmq.connection import close
from shared.topology import Queue

ALARM_SECONDS = 0.5
"""RabbitMQ tells of an alarm some moments after a connection has published."""

DEFAULT_EXCHANGE = "amq.default"
"""What permissions call the exchange whose name is empty."""

_FOR_NOBODY = "leads.doctor"
"""A routing key that no queue is bound to or called by."""


def lacks(broker: Broker, permission: str, name: str) -> Finding:
    """A permission that is missing, and the command that gives all that are needed."""
    told = f'The user "{broker.user}" of LEADS_BROKER_URL lacks the permission to {permission}: "{name}".'
    return failed("permissions", told, broker.command)


async def may_publish(broker: Broker) -> list[Finding]:
    """Publishes an event that no queue takes, so that RabbitMQ confirms and drops it; looks at what is to be read."""
    unread = [await refusal(_look_at_notes(broker, queue)) for queue in broker.topology.queues]
    lacking = [
        lacks(broker, "read", queue.renewals)
        for queue, refused in zip(broker.topology.queues, unread, strict=True)
        if isinstance(refused, ChannelAccessRefused)
    ]
    return lacking + await _may_write(broker)


async def _may_write(broker: Broker) -> list[Finding]:
    exchange = broker.topology.exchange
    refused = await refusal(_publish(broker, exchange))
    if isinstance(refused, ChannelAccessRefused):
        return [lacks(broker, "write", exchange)]
    if isinstance(refused, TimeoutError):
        return [
            failed(
                "broker",
                "RabbitMQ takes no events (LEADS_BROKER_URL): it says that it is out of memory or disk.",
                "See `rabbitmq-diagnostics alarms`, and free memory or disk. Leads are accepted; their events wait.",
            )
        ]
    return [ok("publishing", "allowed, and confirmed")]


async def may_consume(broker: Broker, other: AbstractConnection) -> list[Finding]:
    """Binds what is bound, asks for a consumer that is never given, and moves a copy for nobody.

    `other` is closed by the second.
    """
    faults: list[Finding] = []
    for queue in broker.topology.queues:
        if isinstance(await refusal(_bind(broker, queue)), ChannelAccessRefused):
            faults.append(lacks(broker, "bind (write the queue, read the exchange)", queue.name))
        if isinstance(await refusal(_ask_to_consume(other, queue)), ChannelAccessRefused):
            faults.append(lacks(broker, "read", queue.name))
    await close(other)
    if isinstance(await refusal(_publish(broker, "")), ChannelAccessRefused):
        faults.append(lacks(broker, "write", DEFAULT_EXCHANGE))
    return faults or [ok("consuming", "allowed, and so is moving what failed")]


async def _publish(broker: Broker, exchange: str) -> None:
    """Raises `TimeoutError` also when RabbitMQ has announced that it stops reading what is published."""
    async with broker.channel(confirms=True) as channel:
        target = await channel.get_exchange(exchange, ensure=False) if exchange else channel.default_exchange
        await target.publish(aio_pika.Message(b""), _FOR_NOBODY, mandatory=False)
        await asyncio.sleep(ALARM_SECONDS)
        underlay = await channel.get_underlay_channel()
        async with asyncio.timeout(ALARM_SECONDS):
            await underlay.connection.ready()


async def _look_at_notes(broker: Broker, queue: Queue) -> None:
    """A note that is there is back in its place when the channel closes."""
    async with broker.channel() as channel:
        await (await channel.get_queue(queue.renewals, ensure=False)).get(fail=False, timeout=ANSWER_SECONDS)


async def _bind(broker: Broker, queue: Queue) -> None:
    async with broker.channel() as channel:
        declared = await channel.get_queue(queue.name, ensure=False)
        for routing_key in queue.routing_keys:
            await declared.bind(broker.topology.exchange, routing_key)


async def _ask_to_consume(connection: AbstractConnection, queue: Queue) -> None:
    """A quorum queue gives no consumer a shared prefetch (540), and looks at the permission before that.

    So no message is ever taken. The refusal ends the connection (https://www.rabbitmq.com/docs/quorum-queues#global-qos).
    """
    with suppress(AMQPConnectionError):
        channel = await connection.channel(publisher_confirms=False)
        await channel.set_qos(prefetch_count=1, global_=True, timeout=ANSWER_SECONDS)
        underlay = await channel.get_underlay_channel()
        await underlay.basic_consume(queue.name, _never)


async def _never(_: object) -> None:
    """No message comes."""
