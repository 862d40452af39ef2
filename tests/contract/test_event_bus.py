"""What every event bus promises (`shared/bus/protocol.py`), proved once for each size: embedded file and RabbitMQ."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from shared.bus import Delivery, EventBus, Message, PublishFailed, QueueStats, bus_for
from shared.ids import new_id
from shared.topology import Queue, Topology
from tests.harness.bus_consumer import hold_and_die

HAPPENED = "thing.happened"
ENDED = "thing.ended"
SHORT_SECONDS, LONG_SECONDS = 0.3, 0.6
QUIET_SECONDS = 0.4
"""So long nothing must come that should not."""

ARRIVAL_SECONDS = 15.0
"""So long a message may take that should come: a killed consumer's lease runs out within."""

BusFactory = Callable[[], EventBus]


@pytest.fixture
def topology() -> Topology:
    unique = new_id()[-12:]
    return Topology(
        exchange=f"test-{unique}",
        queues=(
            Queue(f"work-{unique}", (HAPPENED,), (SHORT_SECONDS, LONG_SECONDS)),
            Queue(f"audit-{unique}", (HAPPENED, ENDED), (SHORT_SECONDS,)),
        ),
    )


@pytest.fixture
def work(topology: Topology) -> Queue:
    return topology.queues[0]


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def bus_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "embedded":
        return f"sqlite:///{tmp_path / 'queue.db'}"
    return str(request.getfixturevalue("rabbit_url"))


@pytest.fixture
def bus_factory(bus_url: str, topology: Topology) -> BusFactory:
    return lambda: bus_for(bus_url, topology, client_name="test")


@pytest.fixture
async def bus(bus_factory: BusFactory) -> AsyncIterator[EventBus]:
    async with bus_factory() as bus:
        yield bus


@pytest.fixture(autouse=True)
def no_task_is_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()
    complaints = [record.getMessage() for record in caplog.get_records("call") if record.name == "asyncio"]
    assert complaints == []


def message(routing_key: str = HAPPENED, body: bytes = b"{}") -> Message:
    return Message(new_id(), routing_key, body)


async def receive(deliveries: AsyncIterator[Delivery]) -> Delivery:
    async with asyncio.timeout(ARRIVAL_SECONDS):
        return await anext(deliveries)


async def is_quiet(deliveries: AsyncIterator[Delivery]) -> bool:
    """Whether nothing comes for a while."""
    waiting = asyncio.ensure_future(anext(deliveries))
    await asyncio.wait({waiting}, timeout=QUIET_SECONDS)
    if waiting.done():
        return False
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return True


async def eventually(look: Callable[[], Awaitable[QueueStats]], holds: Callable[[QueueStats], bool]) -> QueueStats:
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while not holds(seen := await look()):
            await asyncio.sleep(0.02)
    return seen


async def bury(bus: EventBus, queue: Queue, count: int, reason: str = "it cannot be read") -> list[str]:
    """Publishes `count` messages and sets them aside; returns their ids, oldest first."""
    messages = [message(body=str(number).encode()) for number in range(count)]
    await bus.publish(messages)
    async with bus.consume(queue, prefetch=1) as deliveries:
        for _ in messages:
            await (await receive(deliveries)).dead_letter(reason)
    return [message.id for message in messages]


async def settle_all(bus: EventBus, queue: Queue, count: int) -> list[Delivery]:
    received = []
    async with bus.consume(queue, prefetch=50) as deliveries:
        for _ in range(count):
            received.append(await receive(deliveries))
            await received[-1].ack()
    return received


# Publishing


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


# Opening and closing


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


# Settling


async def test_an_acknowledged_event_is_gone(bus: EventBus, work: Queue) -> None:
    await bus.publish([message()])
    await settle_all(bus, work, 1)
    async with bus.consume(work, prefetch=10) as deliveries:
        assert await is_quiet(deliveries)


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


# Trying again


@pytest.mark.parametrize("delay_seconds", [SHORT_SECONDS, LONG_SECONDS])
async def test_a_retry_comes_back_not_before_its_delay(bus: EventBus, work: Queue, delay_seconds: float) -> None:
    sent = message()
    await bus.publish([sent])
    async with bus.consume(work, prefetch=5) as deliveries:
        first = await receive(deliveries)
        started_at = time.monotonic()
        await first.retry(delay_seconds, "the mail service is away")
        again = await receive(deliveries)
        waited_seconds = time.monotonic() - started_at
        assert again.message == sent
        assert again.attempt == 2
        assert (again.redelivered, again.redeliveries) == (False, 0)
        await again.ack()
        assert await is_quiet(deliveries)
    assert delay_seconds <= waited_seconds < delay_seconds + 2


async def test_attempts_add_up_unless_they_do_not_count(bus: EventBus, work: Queue) -> None:
    await bus.publish([message()])
    attempts = []
    async with bus.consume(work, prefetch=5) as deliveries:
        for count_attempt in (True, False, True, False):
            delivery = await receive(deliveries)
            attempts.append(delivery.attempt)
            await delivery.retry(SHORT_SECONDS, "later", count_attempt=count_attempt)
        last = await receive(deliveries)
        attempts.append(last.attempt)
        await last.ack()
    assert attempts == [1, 2, 2, 3, 3]


async def test_headers_and_correlation_survive_retries(bus: EventBus, work: Queue) -> None:
    sent = Message(new_id(), HAPPENED, b"{}", correlation_id="c-1", headers={"traceparent": "00-aa-bb-01"})
    await bus.publish([sent])
    async with bus.consume(work, prefetch=5) as deliveries:
        for _ in range(2):
            await (await receive(deliveries)).retry(SHORT_SECONDS, "later")
        last = await receive(deliveries)
        assert last.message == sent
        await last.ack()


async def test_a_delay_that_the_queue_does_not_have_is_refused_and_the_event_stays(bus: EventBus, work: Queue) -> None:
    await bus.publish([message()])
    async with bus.consume(work, prefetch=5) as deliveries:
        delivery = await receive(deliveries)
        with pytest.raises(ValueError, match="retry level"):
            await delivery.retry(7.0, "later")
        await delivery.ack()
        assert await is_quiet(deliveries)
    assert set((await bus.stats(work)).retrying.values()) == {0}


async def test_retries_of_one_queue_do_not_reach_another(bus: EventBus, topology: Topology) -> None:
    work, audit = topology.queues
    await bus.publish([message()])
    await settle_all(bus, audit, 1)
    async with bus.consume(work, prefetch=1) as deliveries, bus.consume(audit, prefetch=1) as others:
        await (await receive(deliveries)).retry(SHORT_SECONDS, "later")
        await (await receive(deliveries)).ack()
        assert await is_quiet(others)


# Dead letters


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


# What ops see


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
