"""What a consumer has in hand is settled once, or comes again: never lost, never handed to two."""

import asyncio

import pytest

from shared.bus import EventBus
from shared.topology import Queue, Topology
from tests.harness.bus_consumer import hold_and_die
from tests.harness.bus_steps import (
    ARRIVAL_SECONDS,
    SHORT_SECONDS,
    BusFactory,
    eventually,
    is_quiet,
    message,
    receive,
    settle_all,
)


async def test_an_acknowledged_event_is_gone(bus: EventBus, work: Queue) -> None:
    await bus.publish([message()])
    await settle_all(bus, work, 1)
    async with bus.consume(work, prefetch=10) as deliveries:
        assert await is_quiet(deliveries)


@pytest.mark.long
async def test_what_a_killed_consumer_had_in_hand_comes_to_another(
    bus: EventBus, bus_url: str, topology: Topology, work: Queue
) -> None:
    sent = [message() for _ in range(3)]
    await bus.publish(sent)
    held = await hold_and_die(bus_url, topology, count=3)
    assert held == [message.id for message in sent]
    received = await settle_all(bus, work, 3)
    assert sorted(delivery.message.id for delivery in received) == sorted(held)
    assert all(delivery.redelivered for delivery in received)
    assert {(delivery.attempt, delivery.redeliveries) for delivery in received} == {(1, 1)}


async def test_leaving_returns_what_is_unsettled(bus: EventBus, work: Queue) -> None:
    sent = [message(), message()]
    await bus.publish(sent)
    async with bus.consume(work, prefetch=2) as deliveries:
        await (await receive(deliveries)).ack()
        await receive(deliveries)
    (again,) = await settle_all(bus, work, 1)
    assert again.message.id == sent[1].id
    assert again.redelivered
    assert again.attempt == 1


async def test_settling_what_was_returned_is_quiet_and_changes_nothing(bus: EventBus, work: Queue) -> None:
    sent = [message(), message(), message()]
    await bus.publish(sent)
    async with bus.consume(work, prefetch=3) as deliveries:
        stale = [await receive(deliveries) for _ in sent]
    await stale[0].ack()
    await stale[1].retry(SHORT_SECONDS, "too late")
    await stale[2].dead_letter("too late")
    received = await settle_all(bus, work, 3)
    assert sorted(delivery.message.id for delivery in received) == sorted(message.id for message in sent)
    stats = await bus.stats(work)
    assert stats.dead == 0
    assert set(stats.retrying.values()) == {0}


async def test_settling_twice_changes_nothing(bus: EventBus, work: Queue) -> None:
    await bus.publish([message(), message()])
    async with bus.consume(work, prefetch=2) as deliveries:
        first, second = await receive(deliveries), await receive(deliveries)
        await first.ack()
        await first.ack()
        await first.retry(SHORT_SECONDS, "already done")
        await first.dead_letter("already done")
        await second.ack()
        assert await is_quiet(deliveries)
    assert (await bus.stats(work)).dead == 0


async def test_prefetch_bounds_what_is_in_hand(bus: EventBus, work: Queue) -> None:
    await bus.publish([message() for _ in range(10)])
    async with bus.consume(work, prefetch=3) as deliveries:
        in_hand = [await receive(deliveries) for _ in range(3)]
        assert await is_quiet(deliveries)
        await in_hand[0].ack()
        await receive(deliveries)
        assert await is_quiet(deliveries)


async def test_a_prefetch_of_none_is_refused(bus: EventBus, work: Queue) -> None:
    with pytest.raises(ValueError, match="0"):
        async with bus.consume(work, prefetch=0):
            pass


async def test_two_consumers_share_the_work(bus_factory: BusFactory, work: Queue) -> None:
    sent = [message() for _ in range(200)]
    settled: list[tuple[str, str]] = []

    async def consume(name: str) -> None:
        async with bus_factory() as bus, bus.consume(work, prefetch=5) as deliveries:
            async for delivery in deliveries:
                await asyncio.sleep(0.001)
                await delivery.ack()
                settled.append((name, delivery.message.id))

    tasks = [asyncio.create_task(consume(name)) for name in ("left", "right")]
    async with bus_factory() as bus:
        await eventually(lambda: bus.stats(work), lambda stats: stats.consumers == 2)
        await bus.publish(sent)
        async with asyncio.timeout(ARRIVAL_SECONDS):
            while len(settled) < len(sent):
                await asyncio.sleep(0.02)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(event_id for _, event_id in settled) == sorted(message.id for message in sent)
    assert {name for name, _ in settled} == {"left", "right"}
