"""Nothing is lost when RabbitMQ is killed or started anew, and the bus goes on by itself."""

import asyncio

import pytest

from shared.bus import BusUnavailable
from shared.bus.rabbitmq import RabbitBus
from tests.harness.bus_steps import ARRIVAL_SECONDS, message, publish_until_confirmed, receive
from tests.harness.rabbitmq import RabbitNode
from tests.harness.work_queue import DELAY_SECONDS, WORK

pytestmark = pytest.mark.rabbitmq


@pytest.mark.long
async def test_nothing_that_was_published_is_lost_when_the_broker_is_killed(
    rabbit_node: RabbitNode, bus: RabbitBus
) -> None:
    kept: set[str] = set()
    received: set[str] = set()
    done = asyncio.Event()

    async def publish() -> int:
        failures = 0
        while not done.is_set():
            batch = [message() for _ in range(100)]
            failures += await publish_until_confirmed(bus, batch)
            kept.update(message.id for message in batch)
        return failures

    async def consume() -> None:
        async with bus.consume(WORK, prefetch=50) as deliveries:
            async for delivery in deliveries:
                received.add(delivery.message.id)
                await delivery.ack()

    publishing, consuming = asyncio.create_task(publish()), asyncio.create_task(consume())
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while len(received) < 200:
            await asyncio.sleep(0.01)
    rabbit_node.crash()
    seen_before = len(received)
    await asyncio.to_thread(rabbit_node.restart)
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while len(received) < seen_before + 200:
            await asyncio.sleep(0.01)
    done.set()
    assert await publishing > 0
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while not kept <= received:
            await asyncio.sleep(0.01)
    consuming.cancel()
    await asyncio.gather(consuming, return_exceptions=True)


@pytest.mark.long
async def test_settling_what_the_lost_broker_had_given_is_quiet_and_it_comes_again(
    rabbit_node: RabbitNode, bus: RabbitBus
) -> None:
    sent = [message() for _ in range(3)]
    await bus.publish(sent)
    async with bus.consume(WORK, prefetch=10) as deliveries:
        stale = [await receive(deliveries) for _ in sent]
        rabbit_node.crash()
        await asyncio.to_thread(rabbit_node.restart)
        await stale[0].ack()
        await stale[1].retry(DELAY_SECONDS, "too late")
        await stale[2].dead_letter("too late")
        again = [await receive(deliveries) for _ in sent]
        for delivery in again:
            await delivery.ack()
    assert sorted(delivery.message.id for delivery in again) == sorted(message.id for message in sent)
    assert all(delivery.redelivered for delivery in again)
    assert (await bus.stats(WORK)).dead == 0


@pytest.mark.long
async def test_everything_survives_a_restart_of_the_broker(rabbit_node: RabbitNode, bus: RabbitBus) -> None:
    ready, retried, buried = message(), message(), message()
    await bus.publish([retried, buried, ready])
    async with bus.consume(WORK, prefetch=2) as deliveries:
        await (await receive(deliveries)).retry(DELAY_SECONDS, "later")
        await (await receive(deliveries)).dead_letter("never")
    await asyncio.to_thread(rabbit_node.restart)
    await publish_until_confirmed(bus, [])
    async with bus.consume(WORK, prefetch=2) as deliveries:
        received = [await receive(deliveries) for _ in range(2)]
        for delivery in received:
            await delivery.ack()
    assert {delivery.message.id for delivery in received} == {ready.id, retried.id}
    assert {delivery.attempt for delivery in received} == {1, 2}
    assert [letter.message.id for letter in await bus.peek(WORK, 10)] == [buried.id]


@pytest.mark.long
async def test_a_consumer_may_start_before_the_broker(rabbit_node: RabbitNode, bus: RabbitBus) -> None:
    sent = message()
    await bus.publish([sent])
    rabbit_node.crash()
    async with bus.consume(WORK, prefetch=1) as deliveries:
        with pytest.raises(BusUnavailable, match="LEADS_BROKER_URL"):
            await bus.stats(WORK)
        await asyncio.to_thread(rabbit_node.restart)
        delivery = await receive(deliveries)
        await delivery.ack()
    assert delivery.message.id == sent.id
