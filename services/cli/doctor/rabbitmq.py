"""RabbitMQ: that our login reaches it, that it is new enough; and its other checks, in their order.

What is there already is declared and bound once more, as each start of a room does; and an event that no queue takes is
published. Both leave RabbitMQ as it was.
"""

import asyncio
from collections.abc import Sequence

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AuthenticationError, ProbableAuthenticationError

from services.cli.doctor.patient import RoomName
from services.cli.doctor.rabbitmq_broker import Broker
from services.cli.doctor.rabbitmq_permissions import may_consume, may_publish
from services.cli.doctor.rabbitmq_topology import compare, find
from services.cli.doctor.report import Finding, failed, ok, warning
from shared.bus import BusUnavailable
from shared.bus.rabbitmq.closing import Goodbyes
from shared.bus.rabbitmq.connection import clear_errors, close, dial
from shared.bus.rabbitmq.nodes import nodes_of
from shared.topology import Topology

CONNECT_SECONDS = 4.0
OLDEST_VERSION = (3, 10)
"""The first whose quorum queues let messages expire and pass them on safely, which the retry levels live by."""


async def check_rabbitmq(rooms: Sequence[RoomName], url: str, topology: Topology) -> list[Finding]:
    """A line for each part that is well, and one for each fault."""
    try:
        connection = await _connect(url)
    except BusUnavailable as error:
        return [failed("broker", str(error), _how_to_connect(Broker(None, url, topology, tuple(rooms)), error))]
    broker = Broker(connection, url, topology, tuple(rooms))
    try:
        with clear_errors(url):
            return [*await _examine(broker), *await _missing_nodes(url)]
    except BusUnavailable as error:
        return [failed("broker", str(error), "See RabbitMQ's log, and look again.")]
    finally:
        await close(connection)


async def _examine(broker: Broker) -> list[Finding]:
    found = [_version(broker)]
    missing = await find(broker)
    found += missing or await compare(broker)
    if RoomName.API in broker.rooms and broker.topology.exchange not in broker.missing:
        found += await may_publish(broker)
    if RoomName.NOTIFIER in broker.rooms and not any(one.check == "topology" and one.mend for one in found):
        # Never a queue that is other than it should be: only a quorum queue lets itself be asked like this.
        found += await may_consume(broker, await _connect(broker.url))
    return found


async def _connect(url: str) -> AbstractConnection:
    with clear_errors(url):
        async with asyncio.timeout(CONNECT_SECONDS):
            return await dial(url, name="leads doctor", goodbyes=Goodbyes(), within_seconds=CONNECT_SECONDS)


async def _missing_nodes(url: str) -> list[Finding]:
    """Of a cluster, each node that does not answer: its absence costs nothing until the next one goes."""
    nodes = nodes_of(url)
    return [found for node in nodes if len(nodes) > 1 for found in await _look_at_node(node)]


async def _look_at_node(node: str) -> list[Finding]:
    try:
        await close(await _connect(node))
    except BusUnavailable as error:
        return [warning("broker", f"One node of the cluster is away. {error}", "Start it: work goes on at the others.")]
    return []


def _how_to_connect(broker: Broker, error: BusUnavailable) -> str:
    if isinstance(error.__cause__, ProbableAuthenticationError | AuthenticationError):
        return f"Correct LEADS_BROKER_URL, or set the password anew: rabbitmqctl change_password {broker.user} PASSWORD"
    if "virtual host" in str(error):
        return f"Correct LEADS_BROKER_URL; or: rabbitmqctl add_vhost {broker.vhost}; {broker.command}"
    return "Start RabbitMQ, or correct host and port in LEADS_BROKER_URL. Leads are accepted meanwhile."


def _version(broker: Broker) -> Finding:
    numbers = tuple(int(part) for part in broker.version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST_VERSION:
        return failed(
            "broker", f"RabbitMQ is of version {broker.version or '?'}.", "Update it: 3.10 or newer is needed."
        )
    return ok("broker", f"RabbitMQ {broker.version} answers, and takes the login of LEADS_BROKER_URL")
