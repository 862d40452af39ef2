"""What is peculiar to the embedded bus: leases, claims, wake-ups. The contract suite holds the verbs."""

import asyncio
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.bus.embedded import EmbeddedBus
from shared.bus.embedded import bus as embedded_bus
from shared.bus.embedded import file as embedded_file
from shared.bus.embedded import rows as embedded_rows
from shared.bus.embedded.turn import Clock
from shared.bus.protocol import BusUnavailable, Message, PublishFailed
from shared.ids import new_id
from shared.topology import DELIVERY_LIMIT
from tests.harness.embedded import (
    BATCH_SIZE,
    QUEUE,
    SHORT_LEASE_SECONDS,
    child,
    embedded,
    execute,
    let_leases_run_out,
    message,
    receive,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "queue.db"


async def test_a_commit_of_another_connection_wakes_the_consumer_at_once(path: Path) -> None:
    async with embedded(path) as publisher, embedded(path) as bus, bus.consume(QUEUE, 8) as deliveries:
        await asyncio.sleep(0.1)
        published_at = time.monotonic()
        await publisher.publish([message()])
        await receive(deliveries)
        assert time.monotonic() - published_at < 0.5


async def test_a_commit_of_its_own_process_wakes_the_consumer_at_once(path: Path) -> None:
    async with embedded(path) as bus, bus.consume(QUEUE, 8) as deliveries:
        await bus.publish([message()])
        await receive(deliveries, within_seconds=0.5)


async def test_a_retry_comes_back_when_its_delay_is_over_not_with_the_next_sweep(path: Path) -> None:
    async with embedded(path) as bus, bus.consume(QUEUE, 8) as deliveries:
        await bus.publish([message()])
        retried_at = time.time()
        await (await receive(deliveries)).retry(0.2, "later")
        again = await receive(deliveries)
        assert 0.2 <= time.time() - retried_at < 1.0
        assert (again.attempt, again.redelivered) == (2, False)


async def test_acks_of_concurrent_handlers_share_a_flush(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with embedded(path) as bus, bus.consume(QUEUE, 64) as deliveries:
        await bus.publish([message() for _ in range(64)])
        in_hand = [await receive(deliveries) for _ in range(64)]
        flushes = count_flushes(monkeypatch)
        await asyncio.gather(*(delivery.ack() for delivery in in_hand))
        assert 1 <= len(flushes) <= 3
        assert execute(path, "SELECT count(*) FROM message") == [(0,)]


async def test_waiting_costs_no_flush(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushes = count_flushes(monkeypatch)
    async with embedded(path, SHORT_LEASE_SECONDS) as bus, bus.consume(QUEUE, 8):
        flushes.clear()
        await asyncio.sleep(0.5)
        assert flushes == []


def count_flushes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    flushes: list[bool] = []
    write = embedded_file._in_transaction

    def counting(connection: sqlite3.Connection, *, work: embedded_file.Work[Any], durable: bool) -> Any:
        if durable:
            flushes.append(durable)
        return write(connection, work=work, durable=durable)

    monkeypatch.setattr(embedded_file, "_in_transaction", counting)
    return flushes


async def test_several_consumers_share_a_queue_without_sharing_a_message(path: Path) -> None:
    async with embedded(path) as one, embedded(path) as other:
        await one.publish([message() for _ in range(100)])
        seen: Counter[str] = Counter()

        async def work(bus: EmbeddedBus) -> None:
            async with bus.consume(QUEUE, 4) as deliveries:
                while sum(seen.values()) < 100:
                    delivery = await receive(deliveries)
                    seen[delivery.message.id] += 1
                    await delivery.ack()

        done, pending = await asyncio.wait(
            [asyncio.create_task(work(bus)) for bus in (one, other)], return_when=asyncio.FIRST_COMPLETED
        )
        for task in pending:
            task.cancel()
        await asyncio.gather(*done, *pending, return_exceptions=True)
        assert len(seen) == 100
        assert set(seen.values()) == {1}


async def test_a_killed_consumer_loses_its_messages_to_another_within_a_lease(path: Path) -> None:
    sent = message()
    async with embedded(path, SHORT_LEASE_SECONDS) as bus, child("consume", path) as dying:
        await bus.publish([sent])
        assert await dying.said() == sent.id
        async with bus.consume(QUEUE, 8) as deliveries:
            dying.process.send_signal(signal.SIGKILL)
            again = await receive(deliveries, within_seconds=2)
            assert (again.message, again.redelivered, again.attempt) == (sent, True, 1)
            await again.ack()


async def test_a_stopped_consumer_that_goes_on_settles_nothing_of_others_and_works_again(path: Path) -> None:
    first, second = message(), message()
    async with embedded(path, SHORT_LEASE_SECONDS) as bus, child("consume", path) as stopped:
        await bus.publish([first])
        assert await stopped.said() == first.id
        stopped.process.send_signal(signal.SIGSTOP)
        async with bus.consume(QUEUE, 1) as deliveries:
            again = await receive(deliveries, within_seconds=2)
            stopped.process.send_signal(signal.SIGCONT)
            await stopped.go_on()
            assert await stopped.said() == "settled"
            assert execute(path, "SELECT id, claimed_by NOT NULL FROM message") == [(first.id, 1)]
            await again.ack()
        await bus.publish([second])
        assert await stopped.said() == second.id


@pytest.mark.parametrize("verb", ["ack", "retry", "dead_letter"])
async def test_a_stale_consumer_cannot_settle_what_another_has(path: Path, verb: str) -> None:
    arguments = {"ack": (), "retry": (0.2, "late"), "dead_letter": ("late",)}[verb]
    async with embedded(path) as stale, embedded(path) as bus, stale.consume(QUEUE, 1) as stale_deliveries:
        await bus.publish([message()])
        lost = await receive(stale_deliveries)
        let_leases_run_out(path)
        async with bus.consume(QUEUE, 1) as deliveries:
            again = await receive(deliveries)
            with capture_logs() as logs:
                await getattr(lost, verb)(*arguments)
            assert ("bus claim lost", "debug") in {(log["event"], log["log_level"]) for log in logs}
            assert (await bus.stats(QUEUE)).unacked == 1
            await again.ack()
        assert execute(path, "SELECT count(*) FROM message") == [(0,)]


async def test_a_stale_consumer_hands_out_nothing_it_lost_and_claims_anew(path: Path) -> None:
    async with embedded(path) as stale, embedded(path) as bus, stale.consume(QUEUE, 3) as stale_deliveries:
        await bus.publish([message() for _ in range(3)])
        in_hand = await receive(stale_deliveries)
        let_leases_run_out(path)
        async with bus.consume(QUEUE, 3) as deliveries:
            for _ in range(3):
                await (await receive(deliveries)).ack()
        await in_hand.ack()
        fresh = message()
        await bus.publish([fresh])
        assert (await receive(stale_deliveries)).message == fresh


async def test_a_settled_delivery_cannot_be_settled_twice(path: Path) -> None:
    async with embedded(path) as bus, bus.consume(QUEUE, 1) as deliveries:
        await bus.publish([message()])
        delivery = await receive(deliveries)
        await delivery.retry(60.0, "later")
        await delivery.dead_letter("too late")
        stats = await bus.stats(QUEUE)
        assert (stats.retrying["work.retry.1m"], stats.dead) == (1, 0)


async def test_what_a_silent_consumer_has_is_counted_as_ready(path: Path) -> None:
    async with embedded(path) as bus, bus.consume(QUEUE, 8) as deliveries:
        await bus.publish([message()])
        await receive(deliveries)
        live = await bus.stats(QUEUE)
        let_leases_run_out(path)
        silent = await bus.stats(QUEUE)
        assert (live.ready, live.unacked, live.consumers) == (0, 1, 1)
        assert (silent.ready, silent.unacked, silent.consumers) == (1, 0, 0)


async def test_a_message_that_comes_back_too_often_is_set_aside(path: Path) -> None:
    async with embedded(path) as bus:
        await bus.publish([message()])
        deliveries_seen = 0
        while (await bus.stats(QUEUE)).ready:
            async with bus.consume(QUEUE, 1) as deliveries:
                assert (await receive(deliveries)).redelivered == (deliveries_seen > 0)
                deliveries_seen += 1
        (letter,) = await bus.peek(QUEUE, 10)
        assert deliveries_seen == DELIVERY_LIMIT + 1
        assert (letter.reason, letter.attempts) == ("delivery limit reached", 1)
        await bus.replay(QUEUE)
        assert execute(path, "SELECT deliveries, attempt, reason, dead_at FROM message") == [(0, 1, None, None)]


async def test_a_publisher_killed_in_mid_batch_leaves_whole_batches_only(path: Path) -> None:
    async with child("publish", path) as publisher:
        confirmed = [await publisher.said() for _ in range(8)][-1]
        await asyncio.sleep(0.003)
        publisher.process.send_signal(signal.SIGKILL)
        await publisher.process.wait()
    batches = dict(execute(path, "SELECT CAST(id AS INTEGER), count(*) FROM message GROUP BY 1"))
    assert set(batches.values()) == {BATCH_SIZE}
    assert set(range(int(confirmed) + 1)) <= set(batches)


async def test_a_message_that_no_queue_takes_is_not_confirmed(path: Path) -> None:
    kept, lost = message(), Message(new_id(), "thing.unheard_of", b"{}")
    async with embedded(path) as bus:
        with pytest.raises(PublishFailed, match=r"thing\.unheard_of") as caught:
            await bus.publish([lost, kept])
        assert caught.value.confirmed == {kept.id}
        assert execute(path, "SELECT id FROM message") == [(kept.id,)]


async def test_whoever_sees_the_clock_jump_waits_a_lease_before_it_calls_others_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    clock = Clock(5.0)
    steady = []
    for step_seconds in (1.0, 3600.0, 4.0, 4.0, -3600.0, 4.0, 4.0):
        now[0] += step_seconds
        clock.read()
        steady.append(clock.is_steady)
    assert steady == [True, False, False, True, False, False, True]


async def test_a_clock_put_back_delays_a_retry_by_its_own_delay_at_most(path: Path) -> None:
    async with embedded(path) as bus:
        async with bus.consume(QUEUE, 1) as deliveries:
            await bus.publish([message()])
            await (await receive(deliveries)).retry(0.2, "later")
        execute(path, "UPDATE message SET available_at = available_at + 3600")
        async with bus.consume(QUEUE, 1) as deliveries:
            await receive(deliveries, within_seconds=1)


async def test_a_clock_put_back_hides_nothing_that_is_ready(path: Path) -> None:
    async with embedded(path) as bus:
        await bus.publish([message()])
        execute(path, "UPDATE message SET available_at = available_at + 3600")
        async with bus.consume(QUEUE, 1) as deliveries:
            await receive(deliveries, within_seconds=1)


async def test_a_fault_of_our_own_ends_the_iteration_instead_of_going_silent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError

    async with embedded(path) as bus, bus.consume(QUEUE, 1) as deliveries:
        await bus.publish([message()])
        delivery = await receive(deliveries)
        monkeypatch.setattr(embedded_rows, "beat", broken)
        with pytest.raises(ZeroDivisionError):
            await delivery.ack()
        with pytest.raises(ZeroDivisionError):
            await receive(deliveries)


async def test_closing_the_bus_returns_messages_and_ends_the_iteration(path: Path) -> None:
    async with embedded(path) as bus, embedded(path) as other:
        async with bus.consume(QUEUE, 2) as deliveries:
            await bus.publish([message(), message()])
            late = await receive(deliveries)
            await bus.close()
            assert (await other.stats(QUEUE)).ready == 2
            with pytest.raises(StopAsyncIteration):
                await receive(deliveries)
            await late.ack()
        assert (await other.stats(QUEUE)).ready == 2
        with pytest.raises(BusUnavailable, match="not open"):
            await bus.publish([message()])


async def test_a_listing_has_every_event_wherever_it_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_bus, "LISTED_AT_ONCE", 2)
    messages = [message() for _ in range(5)]
    async with embedded(path) as bus, bus.consume(QUEUE, 4) as deliveries:
        await bus.publish(messages)
        acknowledged, retried, dead, _in_hand = [await receive(deliveries) for _ in range(4)]
        await acknowledged.ack()
        await retried.retry(60.0, "later")
        await dead.dead_letter("never")
        listed = [id_ async for page in bus.listing(QUEUE) for id_ in page]
    assert listed == [one.id for one in messages[1:]]
