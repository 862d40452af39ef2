"""An event reaches every queue that it is bound to, whole, in order and confirmed, over closing and opening."""

import asyncio

import pytest

from shared.bus import EventBus, Message, PublishFailed
from shared.ids import new_id
from shared.topology import Queue, Topology
from tests.harness.bus_steps import (
    ARRIVAL_SECONDS,
    ENDED,
    HAPPENED,
    BusFactory,
    bury,
    eventually,
    is_quiet,
    message,
    receive,
    settle_all,
)


async def test_an_event_reaches_every_queue_bound_to_its_type_intact(bus: EventBus, topology: Topology) -> None:
    sent = Message(
        new_id(),
        HAPPENED,
        b'{"name": "Zo\xc3\xab"}\x00\xff',
        content_type="application/cloudevents+json",
        correlation_id="order:42",
        headers={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "note": "Grüße"},
    )
    await bus.publish([sent])
    for queue in topology.queues:
        (delivery,) = await settle_all(bus, queue, 1)
        assert delivery.message == sent
        assert delivery.attempt == 1
        assert not delivery.redelivered


async def test_an_event_without_correlation_or_headers_stays_without(bus: EventBus, work: Queue) -> None:
    sent = message()
    await bus.publish([sent])
    (delivery,) = await settle_all(bus, work, 1)
    assert delivery.message == sent


async def test_an_event_goes_only_where_it_is_bound(bus: EventBus, topology: Topology) -> None:
    work, audit = topology.queues
    sent = message(ENDED)
    await bus.publish([sent])
    assert [delivery.message.id for delivery in await settle_all(bus, audit, 1)] == [sent.id]
    assert (await bus.stats(work)).ready == 0


async def test_an_event_that_no_queue_takes_is_not_confirmed(bus: EventBus) -> None:
    routed, lost = message(), message("thing.unknown")
    with pytest.raises(PublishFailed) as failure:
        await bus.publish([routed, lost])
    assert lost.id not in failure.value.confirmed
    assert failure.value.confirmed <= {routed.id}


async def test_publishing_goes_on_after_a_failure(bus: EventBus, work: Queue) -> None:
    with pytest.raises(PublishFailed):
        await bus.publish([message("thing.unknown")])
    sent = message()
    await bus.publish([sent])
    assert [delivery.message.id for delivery in await settle_all(bus, work, 1)] == [sent.id]


async def test_publishing_nothing_is_no_failure(bus: EventBus, work: Queue) -> None:
    await bus.publish([])
    assert (await bus.stats(work)).ready == 0


async def test_one_consumer_sees_events_in_the_order_they_were_published(bus: EventBus, work: Queue) -> None:
    sent = [message() for _ in range(60)]
    await bus.publish(sent[:40])
    await bus.publish(sent[40:])
    received = await settle_all(bus, work, len(sent))
    assert [delivery.message.id for delivery in received] == [message.id for message in sent]


async def test_a_thousand_events_arrive_exactly_once_when_nobody_crashes(bus: EventBus, work: Queue) -> None:
    sent = [message() for _ in range(1000)]
    received = []
    async with bus.consume(work, prefetch=100) as deliveries:
        for start in range(0, len(sent), 200):
            await bus.publish(sent[start : start + 200])
        for _ in sent:
            delivery = await receive(deliveries)
            received.append(delivery.message.id)
            await delivery.ack()
        assert await is_quiet(deliveries)
    assert sorted(received) == sorted(message.id for message in sent)
    await eventually(lambda: bus.stats(work), lambda stats: stats.ready == 0)


async def test_opening_again_changes_nothing(bus: EventBus, work: Queue) -> None:
    sent = message()
    await bus.publish([sent])
    await bus.open()
    assert [delivery.message.id for delivery in await settle_all(bus, work, 1)] == [sent.id]


async def test_events_survive_closing_and_opening(bus_factory: BusFactory, work: Queue) -> None:
    async with bus_factory() as bus:
        (dead,) = await bury(bus, work, 1)
        sent = message()
        await bus.publish([sent])
    async with bus_factory() as bus:
        assert [letter.message.id for letter in await bus.peek(work, 10)] == [dead]
        assert [delivery.message.id for delivery in await settle_all(bus, work, 1)] == [sent.id]


async def test_closing_the_bus_ends_the_iteration(bus_factory: BusFactory, work: Queue) -> None:
    bus = bus_factory()
    await bus.open()
    async with bus.consume(work, prefetch=1) as deliveries:
        waiting = asyncio.ensure_future(anext(deliveries, None))
        await asyncio.sleep(0.1)
        await bus.close()
        async with asyncio.timeout(ARRIVAL_SECONDS):
            assert await waiting is None
