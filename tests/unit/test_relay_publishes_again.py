"""The relay after a queue was lost: what it may have had is published again, whoever had its confirm, and told once."""

import asyncio
import sqlite3

import pytest
from structlog.testing import capture_logs

from shared import outbox, relay
from shared.bus.protocol import BusUnavailable
from shared.problems import Problem
from shared.relay import Relay
from tests.harness.relay_house import QUEUE, relay_house, running, until

AWAY = BusUnavailable("RabbitMQ cannot be reached")


@pytest.fixture
async def house(tmp_path):
    async with relay_house(tmp_path / "outbox.db") as house:
        yield house


async def test_when_a_queue_was_lost_all_that_was_published_is_published_again_once(house, monkeypatch):
    monkeypatch.setattr(relay, "UNPUBLISHED_AT_ONCE", 2)
    ids = await house.commit(5)
    await house.relay.drain_once()
    house.bus.is_renewed = True
    for _ in range(2):
        await house.relay.make_good()
    assert house.marked() == []
    await house.relay.drain_once()
    await house.relay.drain_once()
    assert house.bus.taken == ids * 2
    assert house.marked() == ids


async def test_an_event_that_consumers_may_have_forgotten_is_not_published_again(house):
    (old,) = await house.commit()
    house.make_older("31 days")
    (new,) = await house.commit()
    await house.relay.drain_once()
    house.bus.is_renewed = True
    await house.relay.make_good()
    await house.relay.drain_once()
    assert house.bus.taken == [old, new, new]


async def test_a_loss_that_could_not_be_seen_to_is_told_again(house, monkeypatch):
    monkeypatch.setattr("shared.engines.turns.BUSY_TIMEOUT_SECONDS", 0.05)
    ids = await house.commit()
    await house.relay.drain_once()
    house.database._writer._engine.dispose()
    house.bus.is_renewed = True
    other = sqlite3.connect(house.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Problem):
        await house.relay.make_good()
    other.execute("ROLLBACK")
    other.close()
    await house.relay.make_good()
    await house.relay.drain_once()
    assert house.bus.taken == ids * 2


async def test_a_bus_that_hangs_when_it_is_asked_for_losses_is_told(house, monkeypatch):
    monkeypatch.setattr(relay, "BACK_OFF_SECONDS", (0.01, 0.02))
    house.bus.renewals_failures = [AWAY] * 3
    ids = await house.commit()
    with capture_logs() as lines:
        async with running(house.relay):
            await until(lambda: house.marked() == ids and house.relay.trouble is None)
    assert [line["log_level"] for line in lines if "bus" in line["event"]] == ["warning", "info"]


async def test_a_relay_that_starts_makes_good_what_was_lost_before(house):
    ids = await house.commit()
    await house.relay.drain_once()
    house.bus.is_renewed = True
    async with running(house.relay):
        await until(lambda: house.bus.taken == ids * 2)


async def test_what_a_lost_queue_confirmed_before_all_was_published_again_is_not_counted(house, monkeypatch):
    ids = await house.commit(2)
    confirm, take = asyncio.Event(), house.bus.publish
    under_way = asyncio.Event()

    async def confirmed_late(messages) -> None:
        await take(messages)
        under_way.set()
        await confirm.wait()

    monkeypatch.setattr(house.bus, "publish", confirmed_late)
    sending = asyncio.create_task(house.relay.drain_once())
    await under_way.wait()
    house.bus.is_renewed = True
    await Relay(house.database, house.bus, [QUEUE]).make_good()
    confirm.set()
    await sending
    assert house.marked() == []
    await house.relay.drain_once()
    assert house.bus.taken == ids * 2
    assert house.marked() == ids


async def test_an_event_that_is_published_again_is_as_old_as_its_waiting(house):
    await house.commit()
    await house.relay.drain_once()
    house.make_older("29 days")
    house.bus.is_renewed = True
    await house.relay.make_good()
    found = await house.database.read(outbox.backlog)
    assert found.events == 1
    assert found.oldest_age_seconds < 60


async def test_an_event_that_was_never_published_has_waited_since_it_was_made(house):
    await house.commit()
    house.make_older("1 hour")
    found = await house.database.read(outbox.backlog)
    assert found.oldest_age_seconds == pytest.approx(3600, abs=60)


async def test_a_first_start_of_the_broker_is_no_loss_to_tell_of(house):
    """Events that came before it wait, and none was published: nothing is published again."""
    await house.commit(2)
    house.bus.is_renewed = True
    with capture_logs() as lines:
        await house.relay.make_good()
    assert lines == []
