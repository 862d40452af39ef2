"""An event that is to be tried again comes back to its queue, in time, whole and with its attempts counted."""

import time

import pytest

from shared.bus import EventBus, Message
from shared.ids import new_id
from shared.topology import Queue, Topology
from tests.harness.bus_steps import HAPPENED, LONG_SECONDS, SHORT_SECONDS, is_quiet, message, receive, settle_all


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
