"""The relay: what is marked was confirmed, what was not is sent again with the same id, and nothing waits long."""

import asyncio
import sqlite3

import pytest
from structlog.testing import capture_logs

from shared import relay
from shared.bus.protocol import BusUnavailable, PublishFailed
from shared.events import Event, LeadCreated
from shared.relay import BATCH
from tests.harness.relay_house import QUEUE, relay_house, running, until

AWAY = BusUnavailable("RabbitMQ cannot be reached")


@pytest.fixture
async def house(tmp_path):
    async with relay_house(tmp_path / "outbox.db") as house:
        yield house


async def test_every_event_is_published_once_in_the_order_of_its_making_and_marked(house):
    ids = await house.commit(3)
    assert await house.relay.drain_once() == 3
    assert await house.relay.drain_once() == 0
    assert house.bus.taken == house.marked() == ids


async def test_an_event_carries_its_id_its_type_its_trace_and_its_correlation_id(house):
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    (id_,) = await house.commit(correlation_id="c-1", traceparent=traceparent)
    await house.relay.drain_once()
    (message,) = house.bus.batches[0]
    assert (message.id, message.routing_key, message.correlation_id) == (id_, LeadCreated.TYPE, "c-1")
    assert message.headers == {"traceparent": traceparent}
    assert Event.model_validate_json(message.body).id == id_


async def test_an_event_that_the_bus_did_not_confirm_is_not_marked_and_is_sent_again_with_the_same_id(house):
    ids = await house.commit(2)
    house.bus.publish_failures = [AWAY]
    with pytest.raises(BusUnavailable):
        await house.relay.drain_once()
    assert house.marked() == []
    await house.relay.drain_once()
    assert house.bus.taken == house.marked() == ids


async def test_of_a_batch_that_was_confirmed_in_part_only_the_rest_is_sent_again(house):
    first, second, third = await house.commit(3)
    house.bus.publish_failures = [PublishFailed("lost on the way", frozenset({first, third}))]
    with pytest.raises(PublishFailed):
        await house.relay.drain_once()
    assert house.marked() == [first, third]
    await house.relay.drain_once()
    assert house.bus.taken == [first, third, second]


async def test_after_a_failure_the_topology_is_declared_again(house):
    await house.commit()
    house.bus.publish_failures = [PublishFailed("the broker lost its queues")]
    with pytest.raises(PublishFailed):
        await house.relay.drain_once()
    await house.relay.drain_once()
    await house.commit()
    await house.relay.drain_once()
    assert house.bus.openings == 2


async def test_a_large_backlog_goes_in_batches_without_a_pause(house, monkeypatch):
    monkeypatch.setattr(relay, "SWEEP_SECONDS", 60.0)
    ids = await house.commit(2 * BATCH + 5)
    async with running(house.relay):
        await until(lambda: len(house.bus.taken) == len(ids))
    assert house.bus.taken == ids
    assert [len(batch) for batch in house.bus.batches] == [BATCH, BATCH, 5]


async def test_a_wake_up_publishes_long_before_the_sweep_would(house, monkeypatch):
    monkeypatch.setattr(relay, "SWEEP_SECONDS", 60.0)
    async with running(house.relay):
        await asyncio.sleep(0.05)
        for _ in range(3):
            ids = await house.commit()
            house.relay.wake()
            await until(lambda: house.marked()[-1:] == ids)  # noqa: B023 - awaited within the round


async def test_a_burst_is_waited_for_only_while_there_is_one(house, monkeypatch):
    """A hundred a second, which come five in a long wait, are none."""
    waits = []

    async def slept(seconds: float) -> None:
        waits.append(seconds)
        await house.commit(coming.pop(0)) if coming else await asyncio.Event().wait()

    coming = [4, 20, 19, 3]
    monkeypatch.setattr(house.relay, "_sleep", slept)
    async with running(house.relay):
        await until(lambda: len(waits) == 5)
    short, long = relay.GATHER_SECONDS, relay.BURST_GATHER_SECONDS
    assert waits == [short, long, long, short, short]


async def test_a_lost_wake_up_costs_one_sweep_at_most(house, monkeypatch):
    monkeypatch.setattr(relay, "SWEEP_SECONDS", 0.1)
    async with running(house.relay):
        await asyncio.sleep(0.02)
        ids = await house.commit()
        await until(lambda: house.marked() == ids)


async def test_while_the_bus_is_away_readiness_says_so_once_and_is_well_again_by_itself(house, monkeypatch):
    monkeypatch.setattr(relay, "BACK_OFF_SECONDS", (0.01, 0.02))
    ids = await house.commit()
    house.bus.publish_failures = [AWAY] * 4
    with capture_logs() as lines:
        async with running(house.relay):
            await until(lambda: house.relay.trouble is not None)
            with pytest.raises(RuntimeError, match="events wait in the outbox: RabbitMQ cannot be reached"):
                await house.relay.check()
            await until(lambda: house.marked() == ids)
            await until(lambda: house.relay.trouble is None)
            await house.relay.check()
    said = [line["log_level"] for line in lines if "bus" in line["event"]]
    assert said == ["warning", "info"]


async def test_a_bus_that_cannot_be_opened_is_tried_again(house, monkeypatch):
    monkeypatch.setattr(relay, "BACK_OFF_SECONDS", (0.01, 0.02))
    ids = await house.commit()
    house.bus.open_failures = [AWAY, AWAY]
    async with running(house.relay):
        await until(lambda: house.marked() == ids)
    assert house.bus.taken == ids


async def test_an_event_whose_mark_could_not_be_kept_is_sent_again_with_the_same_id(house, monkeypatch):
    monkeypatch.setattr(relay, "BACK_OFF_SECONDS", (0.01, 0.02))
    monkeypatch.setattr("shared.engines.turns.BUSY_TIMEOUT_SECONDS", 0.05)
    ids = await house.commit()
    house.database._writer._engine.dispose()  # the next connection is opened with the short timeout
    other = sqlite3.connect(house.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with running(house.relay):
        await until(lambda: len(house.bus.batches) > 1)
        assert house.marked() == []
        other.execute("ROLLBACK")
        await until(lambda: house.marked() == ids)
    other.close()
    assert set(house.bus.taken) == set(ids)


async def test_a_defect_is_not_taken_for_a_bus_that_is_away(house):
    await house.commit()
    house.bus.publish_failures = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(house.relay.run(), 5)
    assert house.marked() == []


async def test_a_relay_that_is_stopped_while_it_publishes_marks_nothing(house, monkeypatch):
    await house.commit()
    under_way = asyncio.Event()

    async def never_confirmed(_messages) -> None:
        under_way.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(house.bus, "publish", never_confirmed)
    async with running(house.relay):
        await under_way.wait()
    assert house.marked() == []


async def test_a_broker_that_goes_away_while_nothing_is_sent_is_told_and_so_is_its_return(house):
    house.bus.stats_failures = [AWAY, AWAY]
    with capture_logs() as logs:
        async with running(house.relay):
            for _ in range(2):
                await house.relay.look(QUEUE)
                await asyncio.sleep(1.2 * relay.SWEEP_SECONDS)
            with pytest.raises(RuntimeError, match="RabbitMQ cannot be reached"):
                await house.relay.check()
            await house.relay.look(QUEUE)
            await house.relay.check()
    assert [line["event"] for line in logs] == [
        "bus unavailable, events wait in the outbox",
        "bus available again, draining the outbox",
    ]
