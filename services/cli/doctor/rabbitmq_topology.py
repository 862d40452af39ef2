"""The exchange and the queues at RabbitMQ: that they are there, with the arguments that Leads needs."""

from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.common import FieldTable

from services.cli.doctor.bus import judge
from services.cli.doctor.patient import RoomName
from services.cli.doctor.rabbitmq_broker import Broker, refusal
from services.cli.doctor.rabbitmq_permissions import lacks
from services.cli.doctor.report import Finding, failed, ok, warning
from shared.bus import QueueStats
from shared.bus.rabbitmq.topology import arguments_of
from shared.topology import Queue


async def find(broker: Broker) -> list[Finding]:
    """Looks for all of it by passive declarations, which need no permission and make nothing."""
    names = [name for queue in broker.topology.queues for name, _ in arguments_of(queue)]
    for name in names:
        if isinstance(await refusal(_look_for_queue(broker, name)), ChannelNotFoundEntity):
            broker.missing.append(name)
    if isinstance(await refusal(_look_for_exchange(broker)), ChannelNotFoundEntity):
        broker.missing.append(broker.topology.exchange)
    if not broker.missing:
        return []
    return [
        warning(
            "topology",
            f"RabbitMQ has no {', '.join(broker.missing)} in the virtual host {broker.vhost}.",
            "The notifier declares them whenever it connects: start it. Events wait in the outbox until then.",
        )
    ]


async def compare(broker: Broker) -> list[Finding]:
    """Declares again what `find` has found, which compares the arguments. Who may not declare cannot compare."""
    found = [finding for queue in broker.topology.queues for finding in await _compare(broker, queue)]
    return found + [finding for queue in broker.topology.queues for finding in judge(_stats(broker, queue))]


async def _compare(broker: Broker, queue: Queue) -> list[Finding]:
    faults: list[Finding] = []
    for name, arguments in arguments_of(queue):
        refused = await refusal(_declare(broker, name, arguments))
        if isinstance(refused, ChannelPreconditionFailed):
            faults.append(_other_arguments(broker, name, refused))
        elif isinstance(refused, ChannelAccessRefused) and RoomName.NOTIFIER in broker.rooms:
            return [*faults, lacks(broker, "configure", name)]
    return faults or [
        ok("topology", f"exchange {broker.topology.exchange}, {len(broker.there)} queues of {queue.name}")
    ]


async def _look_for_queue(broker: Broker, name: str) -> None:
    async with broker.channel() as channel:
        declared = await channel.declare_queue(name, passive=True)
        broker.there[name] = declared.declaration_result


async def _look_for_exchange(broker: Broker) -> None:
    async with broker.channel() as channel:
        await channel.declare_exchange(broker.topology.exchange, passive=True)


async def _declare(broker: Broker, name: str, arguments: FieldTable) -> None:
    async with broker.channel() as channel:
        await channel.declare_queue(name, durable=True, arguments=arguments)


def _other_arguments(broker: Broker, name: str, refused: BaseException) -> Finding:
    return failed(
        "topology",
        f'RabbitMQ has the queue "{name}" with other arguments than Leads needs. It said: {refused}.',
        f"Empty it, then: rabbitmqctl delete_queue -p {broker.vhost} {name} (the rooms declare it anew by themselves); "
        "or name another virtual host in LEADS_BROKER_URL.",
    )


def _stats(broker: Broker, queue: Queue) -> QueueStats:
    waiting = {name: declared.message_count or 0 for name, declared in broker.there.items()}
    return QueueStats(
        queue=queue.name,
        ready=waiting[queue.name],
        unacked=None,
        consumers=broker.there[queue.name].consumer_count or 0,
        retrying={level.name: waiting[level.name] for level in queue.retry_levels},
        dead=waiting[queue.dead_letters],
    )
