"""A RabbitMQ that hangs or reads nothing is noticed within the deadline, and what is in hand stays there."""

import asyncio

import pytest

from shared.bus import PublishFailed
from shared.bus.rabbitmq import RabbitBus, publisher
from tests.harness.bus_steps import ARRIVAL_SECONDS, message, receive
from tests.harness.rabbitmq import RabbitNode
from tests.harness.work_queue import WORK

pytestmark = pytest.mark.rabbitmq


async def test_a_broker_that_hangs_is_a_failed_publish_within_the_deadline(
    rabbit_node: RabbitNode, bus: RabbitBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "PUBLISH_SECONDS", 0.5)
    await bus.publish([message()])
    rabbit_node.pause()
    try:
        async with asyncio.timeout(6):
            with pytest.raises(PublishFailed, match="did not answer in time") as failure:
                await bus.publish([message()])
    finally:
        rabbit_node.resume()
    assert failure.value.confirmed == frozenset()
    monkeypatch.undo()
    await bus.publish([message()])


async def test_a_cancelled_publish_leaves_the_bus_usable(rabbit_node: RabbitNode, bus: RabbitBus) -> None:
    await bus.publish([message()])
    rabbit_node.pause()
    try:
        publishing = asyncio.create_task(bus.publish([message()]))
        await asyncio.sleep(0.2)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
    finally:
        rabbit_node.resume()
    assert publishing.cancelled()
    await bus.publish([message()])


async def publish_on_and_on(bus: RabbitBus) -> None:
    """A broker tells its connections of an alarm some moments after it was set."""
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while True:
            await bus.publish([message()])


@pytest.mark.long
async def test_a_broker_without_memory_takes_acknowledgements_and_keeps_failed_events_in_hand(
    rabbit_node: RabbitNode, bus: RabbitBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "PUBLISH_SECONDS", 0.5)
    await bus.publish([message(), message()])
    async with bus.consume(WORK, prefetch=2) as deliveries:
        first, second = await receive(deliveries), await receive(deliveries)
        rabbit_node.evaluate("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).")
        try:
            with pytest.raises(PublishFailed):
                await publish_on_and_on(bus)
            await first.ack()
            burying = asyncio.create_task(second.dead_letter("never"))
            await asyncio.sleep(1)
            assert not burying.done()
        finally:
            rabbit_node.evaluate("rabbit_alarm:clear_alarm({resource_limit, memory, node()}).")
        async with asyncio.timeout(ARRIVAL_SECONDS):
            await burying
    assert {letter.message.id for letter in await bus.peek(WORK, 10)} == {second.message.id}


async def test_every_connection_agrees_on_heartbeats_of_three_seconds(rabbit_node: RabbitNode, bus: RabbitBus) -> None:
    await bus.publish([message()])
    async with bus.consume(WORK, prefetch=1) as deliveries:
        await receive(deliveries)
        agreed = rabbit_node.evaluate(
            "lists:usort([T || [{timeout, T}] <- rabbit_networking:connection_info_all([timeout])]) =:= [3]."
        )
        assert agreed == "true"
