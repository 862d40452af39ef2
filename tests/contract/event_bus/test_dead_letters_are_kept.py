"""What was set aside is kept with its reason until somebody replays or purges it, and ops see what waits where."""

import time

from shared.bus import EventBus, Message
from shared.ids import new_id
from shared.topology import Queue, Topology
from tests.harness.bus_steps import (
    HAPPENED,
    LONG_SECONDS,
    SHORT_SECONDS,
    bury,
    eventually,
    message,
    receive,
    settle_all,
)


async def test_a_dead_letter_shows_its_reason_and_attempts(bus: EventBus, work: Queue) -> None:
    sent = Message(new_id(), HAPPENED, b'{"a": 1}', correlation_id="c-7", headers={"traceparent": "00-aa-bb-01"})
    await bus.publish([sent])
    async with bus.consume(work, prefetch=1) as deliveries:
        await (await receive(deliveries)).retry(SHORT_SECONDS, "the first reason")
        await (await receive(deliveries)).dead_letter("the address does not exist")
    (letter,) = await bus.peek(work, 10)
    assert letter.message == sent
    assert letter.reason == "the address does not exist"
    assert letter.attempts == 2
    assert letter.died_at is not None
    assert abs(letter.died_at.timestamp() - time.time()) < 60


async def test_looking_leaves_dead_letters_as_they_are(bus: EventBus, work: Queue) -> None:
    buried = await bury(bus, work, 12)
    for _ in range(60):
        assert [letter.message.id for letter in await bus.peek(work, 3)] == buried[:3]
    assert [letter.message.id for letter in await bus.peek(work, 100)] == buried
    assert [letter.message.id for letter in await bus.peek(work, 100)] == buried
    await eventually(lambda: bus.stats(work), lambda stats: stats.dead == 12)


async def test_without_dead_letters_there_is_nothing_to_see(bus: EventBus, work: Queue) -> None:
    assert await bus.peek(work, 10) == []
    assert await bus.replay(work) == 0
    assert await bus.purge(work) == 0


async def test_replaying_all_makes_first_attempts_of_them(bus: EventBus, work: Queue) -> None:
    await bus.publish([message()])
    async with bus.consume(work, prefetch=1) as deliveries:
        await (await receive(deliveries)).retry(SHORT_SECONDS, "later")
        await (await receive(deliveries)).dead_letter("enough")
    buried = [letter.message.id for letter in await bus.peek(work, 1)] + await bury(bus, work, 3)
    assert await bus.replay(work) == 4
    received = await settle_all(bus, work, 4)
    assert sorted(delivery.message.id for delivery in received) == sorted(buried)
    assert {delivery.attempt for delivery in received} == {1}
    assert {delivery.message.routing_key for delivery in received} == {HAPPENED}
    assert await bus.peek(work, 10) == []


async def test_replaying_by_id_leaves_the_others_in_their_order(bus: EventBus, work: Queue) -> None:
    buried = await bury(bus, work, 5)
    assert await bus.replay(work, [buried[3], buried[1], "unknown"]) == 2
    received = await settle_all(bus, work, 2)
    assert sorted(delivery.message.id for delivery in received) == sorted([buried[1], buried[3]])
    assert [letter.message.id for letter in await bus.peek(work, 10)] == [buried[0], buried[2], buried[4]]


async def test_a_replayed_event_reaches_only_the_queue_that_it_died_in(bus: EventBus, topology: Topology) -> None:
    work, audit = topology.queues
    await bury(bus, work, 1)
    await settle_all(bus, audit, 1)
    await bus.replay(work)
    await settle_all(bus, work, 1)
    assert (await bus.stats(audit)).ready == 0


async def test_a_replayed_event_can_die_again(bus: EventBus, work: Queue) -> None:
    (buried,) = await bury(bus, work, 1, "the first time")
    await bus.replay(work, [buried])
    async with bus.consume(work, prefetch=1) as deliveries:
        await (await receive(deliveries)).dead_letter("the second time")
    (letter,) = await bus.peek(work, 10)
    assert letter.message.id == buried
    assert letter.reason == "the second time"


async def test_purging_by_id_leaves_the_others_in_their_order(bus: EventBus, work: Queue) -> None:
    buried = await bury(bus, work, 4)
    assert await bus.purge(work, [buried[0], buried[2], "unknown"]) == 2
    assert [letter.message.id for letter in await bus.peek(work, 10)] == [buried[1], buried[3]]


async def test_purging_all_leaves_none(bus: EventBus, work: Queue) -> None:
    await bury(bus, work, 4)
    assert await bus.purge(work) == 4
    assert await bus.peek(work, 10) == []


async def test_stats_tell_what_waits_where(bus: EventBus, work: Queue) -> None:
    await bury(bus, work, 2)
    await bus.publish([message() for _ in range(6)])
    async with bus.consume(work, prefetch=3) as deliveries:
        in_hand = [await receive(deliveries) for _ in range(3)]
        await in_hand[0].retry(LONG_SECONDS, "later")
        stats = await eventually(
            lambda: bus.stats(work), lambda stats: stats.ready == 2 and sum(stats.retrying.values()) == 1
        )
        assert stats.queue == work.name
        assert stats.consumers == 1
        assert stats.unacked in (None, 3)
        assert stats.retrying == {work.retry_levels[0].name: 0, work.retry_levels[1].name: 1}
        assert stats.dead == 2
    await eventually(lambda: bus.stats(work), lambda stats: stats.consumers == 0 and stats.ready == 6)
