"""The worker: a message is settled exactly once, after the work, in the way that the handler's end says."""

import asyncio
import contextlib
import time

import pytest
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs

from shared import worker
from shared.bus.protocol import BusUnavailable
from shared.events import LeadCreated
from shared.topology import DELIVERY_LIMIT, REDELIVERY_LIMIT, Queue
from shared.worker import MAX_EVENT_BYTES, GiveUp, Hold, Retry, Worker
from tests.harness.events import event
from tests.harness.fake_bus import FakeBus, FakeDelivery

QUEUE = Queue("notifier", ("lead.created",), (10.0, 60.0))
GOOD = event().encode()
AWAY = BusUnavailable("the broker is away")


async def work(house: Worker, bus: FakeBus, *deliveries: FakeDelivery) -> None:
    """Let the worker have these in hand, then stop it."""
    for delivery in deliveries:
        bus.arriving.put_nowait(delivery)
    running = asyncio.create_task(house.run())
    while bus.openings == 0 or not bus.arriving.empty():
        await asyncio.sleep(0)
    house.stop()
    await asyncio.wait_for(running, 5)


async def handled(delivery: FakeDelivery, handler=None) -> FakeDelivery:
    """The delivery, after a worker had it in hand."""

    async def nothing(_event, _data) -> None:
        pass

    bus = FakeBus()
    await work(Worker(bus, QUEUE, {LeadCreated: handler or nothing}, concurrency=4), bus, delivery)
    return delivery


def raising(error: Exception):
    async def handler(_event, _data) -> None:
        raise error

    return handler


async def test_a_handled_message_is_acknowledged_once_and_not_before_the_work_is_done():
    delivery = FakeDelivery(GOOD)
    seen = []

    async def handler(handled_event, data) -> None:
        await asyncio.sleep(0.02)
        seen.append((handled_event.type, data.first_name, list(delivery.settled)))

    await handled(delivery, handler)
    assert seen == [("lead.created", "Ann", [])]
    assert delivery.settled == [("ack",)]


@pytest.mark.parametrize(("attempt", "delay_seconds"), [(1, 10.0), (2, 60.0)])
async def test_each_failed_attempt_waits_one_level_longer(attempt, delay_seconds):
    delivery = await handled(FakeDelivery(GOOD, attempt=attempt), raising(Retry("SendGrid answered 500.")))
    assert delivery.settled == [("retry", delay_seconds, "SendGrid answered 500.", True)]


async def test_after_the_last_level_it_is_a_dead_letter_with_the_reason_and_the_number_of_attempts():
    delivery = await handled(FakeDelivery(GOOD, attempt=3), raising(Retry("SendGrid answered 500.")))
    assert delivery.settled == [("dead", "SendGrid answered 500. (after 3 attempts)")]


async def test_what_will_never_work_is_a_dead_letter_at_once():
    delivery = await handled(FakeDelivery(GOOD), raising(GiveUp("no such mailbox")))
    assert delivery.settled == [("dead", "no such mailbox")]


async def test_a_pause_that_is_nobodys_fault_comes_back_soon_and_costs_no_attempt():
    delivery = await handled(FakeDelivery(GOOD, attempt=3), raising(Hold("sending is paused")))
    assert delivery.settled == [("retry", 10.0, "sending is paused", False)]


async def test_a_defect_is_logged_with_its_stack_and_retried_and_its_words_stay_inside():
    with capture_logs() as lines:
        delivery = await handled(FakeDelivery(GOOD), raising(ZeroDivisionError("ann@example.com")))
    assert delivery.settled == [("retry", 10.0, "unexpected ZeroDivisionError", True)]
    (said,) = [line for line in lines if line["event"] == "handler failed"]
    assert said["exc_info"]


def without(field: str) -> bytes:
    return GOOD.replace(f'"{field}":'.encode(), b'"other":')


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "cannot be read: body"),
        (b"\xff\xfe not JSON", "cannot be read: body"),
        (b"[1, 2]", "cannot be read: body"),
        (GOOD.replace(b'"1.0"', b'"2.0"'), "cannot be read: specversion"),
        (without("first_name"), "cannot be read: first_name"),
        (without("sha256"), "cannot be read: resume.sha256"),
        (GOOD.replace(b'"lead.created"', b'"lead.vanished"'), "sent as 'lead.created', and its type is not known here"),
        (
            GOOD.replace(b"created:1", b"created:2"),
            "sent as 'lead.created', and its version (dataschema) is not known here",
        ),
        (GOOD + b" " * MAX_EVENT_BYTES, f"too large for an event: {len(GOOD) + MAX_EVENT_BYTES} bytes, at most 262144"),
    ],
)
async def test_what_cannot_be_read_is_a_dead_letter_that_names_the_place_and_repeats_no_content(body, reason):
    delivery = await handled(FakeDelivery(body))
    assert delivery.settled == [("dead", reason)]


async def test_a_message_sent_as_another_type_than_its_body_tells_is_a_dead_letter():
    delivery = await handled(FakeDelivery(GOOD, routing_key="lead.withdrawn"))
    assert delivery.settled == [("dead", "sent as 'lead.withdrawn', and its body is of another type")]


async def test_what_loses_its_consumer_too_often_is_set_aside_by_us_before_the_broker_does_it_behind_our_back():
    assert REDELIVERY_LIMIT < DELIVERY_LIMIT
    assert (await handled(FakeDelivery(GOOD, redeliveries=REDELIVERY_LIMIT - 1))).settled == [("ack",)]
    delivery = await handled(FakeDelivery(GOOD, redeliveries=REDELIVERY_LIMIT))
    assert delivery.settled == [("dead", f"its consumer went away with it in hand, {REDELIVERY_LIMIT} times")]


@pytest.mark.parametrize(
    ("raised", "settled"),
    [
        (None, ("dead", "no such mailbox")),
        (ZeroDivisionError(), ("dead", "no such mailbox")),
        (Hold("the database is away"), ("retry", 10.0, "the database is away", False)),
    ],
)
async def test_whoever_keeps_rows_is_told_before_the_message_is_set_aside(raised, settled):
    bus, delivery, told = FakeBus(), FakeDelivery(GOOD), []

    async def given_up(given_event, data, reason) -> None:
        told.append((given_event.type, data.first_name, reason, list(delivery.settled)))
        if raised:
            raise raised

    handlers = {LeadCreated: raising(GiveUp("no such mailbox"))}
    house = Worker(bus, QUEUE, handlers, concurrency=1, given_up={LeadCreated: given_up})
    await work(house, bus, delivery)
    assert told == [("lead.created", "Ann", "no such mailbox", [])]
    assert delivery.settled == [settled]


async def test_an_event_that_nobody_here_subscribed_to_is_a_dead_letter():
    bus = FakeBus()
    delivery = FakeDelivery(GOOD)
    await work(Worker(bus, QUEUE, {}, concurrency=1), bus, delivery)
    assert delivery.settled == [("dead", "nobody here handles 'lead.created'")]


async def test_the_logs_of_the_work_carry_the_correlation_id_of_the_message():
    found = {}

    async def handler(_event, _data) -> None:
        found.update(get_contextvars())

    await handled(FakeDelivery(GOOD), handler)
    assert found == {"correlation_id": "asked-for-by-the-test", "event_id": "event-1"}


async def test_a_broker_that_goes_away_before_the_settling_does_not_end_the_worker():
    bus = FakeBus()
    lost, next_ = FakeDelivery(GOOD, unavailable=True), FakeDelivery(GOOD)
    handled_count = 0

    async def handler(_event, _data) -> None:
        nonlocal handled_count
        handled_count += 1

    with capture_logs() as lines:
        await work(Worker(bus, QUEUE, {LeadCreated: handler}, concurrency=1), bus, lost, next_)
    assert handled_count == 2
    assert (lost.settled, next_.settled) == ([], [("ack",)])
    assert [line["event"] for line in lines] == ["not settled, the bus will deliver it again"]


async def test_it_takes_no_more_than_its_concurrency_in_hand():
    bus = FakeBus()
    await work(Worker(bus, QUEUE, {}, concurrency=7), bus)
    assert bus.prefetch == 7


async def test_a_stop_lets_the_work_in_hand_finish_and_takes_nothing_new():
    bus = FakeBus()
    may_end, begun = asyncio.Event(), asyncio.Event()

    async def handler(_event, _data) -> None:
        begun.set()
        await may_end.wait()

    in_hand, late = FakeDelivery(GOOD), FakeDelivery(GOOD)
    house = Worker(bus, QUEUE, {LeadCreated: handler}, concurrency=4)
    bus.arriving.put_nowait(in_hand)
    running = asyncio.create_task(house.run())
    await begun.wait()
    house.stop()
    await asyncio.sleep(0.01)
    bus.arriving.put_nowait(late)
    await asyncio.sleep(0.01)
    assert not running.done()
    may_end.set()
    await asyncio.wait_for(running, 5)
    assert (in_hand.settled, late.settled) == ([("ack",)], [])


async def test_work_that_does_not_end_in_time_is_left_unsettled_for_another(monkeypatch):
    monkeypatch.setattr(worker, "STOP_GRACE_SECONDS", 0.05)
    bus = FakeBus()
    begun = asyncio.Event()

    async def handler(_event, _data) -> None:
        begun.set()
        await asyncio.Event().wait()

    delivery = FakeDelivery(GOOD)
    house = Worker(bus, QUEUE, {LeadCreated: handler}, concurrency=4)
    bus.arriving.put_nowait(delivery)
    running = asyncio.create_task(house.run())
    await begun.wait()
    house.stop()
    await asyncio.wait_for(running, 5)
    assert delivery.settled == []


async def test_a_bus_that_is_away_at_the_start_is_waited_for_and_said(monkeypatch):
    monkeypatch.setattr(worker, "OPEN_AGAIN_SECONDS", (0.01, 0.02))
    bus = FakeBus()
    bus.open_failures = [AWAY] * 3
    house = Worker(bus, QUEUE, {}, concurrency=1)
    running = asyncio.create_task(house.run())
    while house.trouble is None:
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="the broker is away"):
        await house.check()
    while not bus.prefetch:
        await asyncio.sleep(0.005)
    assert bus.openings == 4
    await house.check()
    house.stop()
    await asyncio.wait_for(running, 5)


async def test_a_stop_does_not_wait_for_a_bus_that_is_away(monkeypatch):
    monkeypatch.setattr(worker, "OPEN_AGAIN_SECONDS", (60.0,))
    bus = FakeBus()
    bus.open_failures = [AWAY]
    house = Worker(bus, QUEUE, {}, concurrency=1)
    running = asyncio.create_task(house.run())
    await asyncio.sleep(0.01)
    began_at = time.monotonic()
    house.stop()
    await asyncio.wait_for(running, 5)
    assert time.monotonic() - began_at < 1


@pytest.mark.parametrize("verb", ["open", "consume"])
async def test_a_stop_does_not_wait_for_a_bus_that_hangs(monkeypatch, verb):
    bus = FakeBus()
    hanging, let_go = asyncio.Event(), []

    async def hang() -> None:
        hanging.set()
        try:
            await asyncio.Event().wait()
        finally:
            let_go.append(verb)

    @contextlib.asynccontextmanager
    async def hang_at_the_start(_queue, prefetch):
        yield await hang()

    monkeypatch.setattr(bus, verb, hang if verb == "open" else hang_at_the_start)
    house = Worker(bus, QUEUE, {}, concurrency=1)
    running = asyncio.create_task(house.run())
    await hanging.wait()
    house.stop()
    await asyncio.wait_for(running, 5)
    assert let_go == [verb]


async def test_a_bus_that_ends_by_itself_is_a_failure_said_aloud_after_the_work_in_hand_is_done():
    bus = FakeBus()
    delivery = FakeDelivery(GOOD)

    async def handler(_event, _data) -> None:
        await asyncio.sleep(0.02)

    bus.arriving.put_nowait(delivery)
    bus.arriving.put_nowait(None)
    with pytest.raises(RuntimeError, match="the bus ended the deliveries of notifier"):
        await asyncio.wait_for(Worker(bus, QUEUE, {LeadCreated: handler}, concurrency=1).run(), 5)
    assert delivery.settled == [("ack",)]
