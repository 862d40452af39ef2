"""What somebody deletes at RabbitMQ is declared anew by who may, and told to who published what is lost with it."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from services.notifier.gauges import measure_queues
from shared.bus import PublishFailed
from shared.bus.rabbitmq import RabbitBus
from shared.bus.rabbitmq.permissions import to_consume, to_publish
from shared.topology import Queue, Topology
from tests.harness.bus_steps import message, receive
from tests.harness.rabbitmq import RabbitNode
from tests.harness.work_queue import TOPOLOGY, WORK

pytestmark = pytest.mark.rabbitmq

SOON_SECONDS = 15.0


@pytest.fixture
async def notifier(rabbit_node: RabbitNode, vhost: str) -> AsyncIterator[RabbitBus]:
    """Declares; with the least permissions for it, as in docker-compose.yml."""
    url = rabbit_node.add_user("consumer", vhost, **dataclasses.asdict(to_consume(TOPOLOGY)))
    async with RabbitBus(url, TOPOLOGY, client_name="notifier") as bus:
        yield bus


@pytest.fixture
async def api(rabbit_node: RabbitNode, vhost: str, notifier: RabbitBus) -> AsyncIterator[RabbitBus]:
    """Publishes, and may nothing else."""
    url = rabbit_node.add_user("publisher", vhost, **dataclasses.asdict(to_publish(TOPOLOGY)))
    async with RabbitBus(url, TOPOLOGY, client_name="api") as bus:
        async with bus.renewals(WORK):
            pass  # the first time, there was none before
        yield bus


async def is_renewed(bus: RabbitBus) -> bool:
    async with bus.renewals(WORK) as renewed:
        return renewed


@pytest.mark.parametrize("name", [WORK.name, WORK.retry_levels[0].name, WORK.dead_letters])
async def test_the_api_learns_what_the_notifier_declared_anew(
    rabbit_node: RabbitNode, vhost: str, api: RabbitBus, notifier: RabbitBus, name: str
) -> None:
    assert not await is_renewed(api)
    rabbit_node.delete_queue(vhost, name)
    await measure_queues(notifier, TOPOLOGY)
    assert await is_renewed(api)
    assert not await is_renewed(api)


async def test_a_retry_level_that_came_later_is_missed_when_it_is_lost(
    rabbit_node: RabbitNode, vhost: str, api: RabbitBus, notifier: RabbitBus
) -> None:
    """The notifier starts with one delay more, then its queue is deleted."""
    queue = Queue(WORK.name, WORK.routing_keys, (0.2, 0.3))
    more = Topology(queues=(queue,))
    url = rabbit_node.add_user("consumer", vhost, **dataclasses.asdict(to_consume(more)))
    async with RabbitBus(url, more, client_name="notifier") as later:
        assert not await is_renewed(api)
        rabbit_node.delete_queue(vhost, queue.retry_levels[-1].name)
        await measure_queues(later, more)
        assert await is_renewed(api)


async def test_levels_that_an_older_leads_made_are_missed_once_this_one_has_seen_them(
    rabbit_node: RabbitNode, vhost: str, api: RabbitBus, notifier: RabbitBus
) -> None:
    """It left no trace of them."""
    level = WORK.retry_levels[0].name
    rabbit_node.delete_exchange(vhost, level)
    await notifier.open()
    assert not await is_renewed(api)
    rabbit_node.delete_queue(vhost, level)
    await notifier.open()
    assert await is_renewed(api)


async def test_a_consumer_that_lost_its_queue_has_the_api_told(
    rabbit_node: RabbitNode, vhost: str, api: RabbitBus, notifier: RabbitBus
) -> None:
    async with notifier.consume(WORK, prefetch=1) as deliveries:
        waiting = asyncio.ensure_future(anext(deliveries))
        rabbit_node.delete_queue(vhost, WORK.name)
        async with asyncio.timeout(SOON_SECONDS):
            while not await is_renewed(api):
                await asyncio.sleep(0.05)
        waiting.cancel()  # as a worker does that is told to stop
        await asyncio.wait({waiting}, timeout=SOON_SECONDS)
        assert waiting.cancelled(), "it waits on, and so would the worker"


@pytest.mark.parametrize("what", ["exchange", "bindings"])
async def test_a_notifier_that_looks_mends_what_the_api_may_not(
    rabbit_node: RabbitNode, vhost: str, api: RabbitBus, notifier: RabbitBus, what: str
) -> None:
    if what == "exchange":
        rabbit_node.delete_exchange(vhost, TOPOLOGY.exchange)
    else:
        rabbit_node.delete_bindings(vhost, TOPOLOGY.exchange, WORK.name)
    with pytest.raises(PublishFailed):
        await api.publish([message()])
    await measure_queues(notifier, TOPOLOGY)
    await api.publish([message()])
    assert not await is_renewed(api)


async def test_rooms_may_all_find_at_once_that_everything_is_missing(rabbit_url: str) -> None:
    buses = [RabbitBus(rabbit_url, TOPOLOGY, client_name=f"room {number}") for number in range(4)]
    try:
        await asyncio.gather(*(bus.open() for bus in buses))
        sent = message()
        await buses[0].publish([sent])
        async with buses[1].consume(WORK, prefetch=1) as deliveries:
            assert (await receive(deliveries)).message.id == sent.id
    finally:
        for bus in buses:
            await bus.close()


async def test_who_may_not_read_the_notes_publishes_all_the_same(rabbit_node: RabbitNode, vhost: str, api) -> None:
    old = dataclasses.replace(to_publish(TOPOLOGY), read="^$")
    url = rabbit_node.add_user("old", vhost, **dataclasses.asdict(old))
    with capture_logs() as lines:
        async with RabbitBus(url, TOPOLOGY, client_name="old api") as bus:
            for _ in range(2):
                assert not await is_renewed(bus)
            await bus.publish([message()])
    (line,) = [line for line in lines if line["event"] == "cannot tell whether a queue was lost"]
    assert "leads doctor" in line["reason"]
