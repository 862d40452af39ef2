"""Gauges tell what is so now or nothing; what cannot be measured neither ends its room nor floods its log."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.notifier.gauges import measure_queues
from shared import background
from shared.background import measured
from shared.bus import BusUnavailable, Message, QueueStats
from shared.bus.embedded import EmbeddedBus
from shared.disk import local_places, measure_databases, measure_folder
from shared.topology import NOTIFIER_QUEUE, leads_topology

TOPOLOGY = leads_topology()
QUEUE = TOPOLOGY.queue(NOTIFIER_QUEUE)


def exported(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


class BrokerAway:
    async def open(self) -> None:
        """As far as it remembers, it is."""

    async def stats(self, _queue):
        raise BusUnavailable("RabbitMQ cannot be reached")


class BrokerOfRabbitMQ:
    """Tells what RabbitMQ's protocol tells."""

    async def open(self) -> None:
        """It is."""

    async def stats(self, queue) -> QueueStats:
        levels = {level.name: 0 for level in queue.retry_levels}
        return QueueStats(queue.name, 7, None, 2, levels | {"notifier.retry.10m": 3}, 1)


async def test_a_queue_is_told_with_its_retries_and_dead_letters(tmp_path: Path):
    async with EmbeddedBus(tmp_path / "queue.db", TOPOLOGY, client_name="test") as bus:
        await bus.publish([Message(str(number), "lead.created", b"{}") for number in range(4)])
        async with bus.consume(QUEUE, prefetch=3) as deliveries:
            await (await anext(deliveries)).dead_letter("no use")
            await (await anext(deliveries)).retry(60.0, "not now")
            await measure_queues(bus, TOPOLOGY)
    in_state = {state: exported("leads_queue_messages", queue="notifier", state=state) for state in ("ready", "dead")}
    assert in_state["dead"] == 1
    assert (in_state["ready"] or 0) + (exported("leads_queue_messages", queue="notifier", state="unacked") or 0) == 2
    assert exported("leads_queue_retrying_messages", queue="notifier", level="1m") == 1
    assert exported("leads_queue_consumers", queue="notifier") == 1


async def test_what_rabbitmq_does_not_tell_is_not_exported_and_while_it_is_away_nothing_is():
    with suppress(BusUnavailable):
        await measure_queues(BrokerAway(), TOPOLOGY)
    await measure_queues(BrokerOfRabbitMQ(), TOPOLOGY)
    assert exported("leads_queue_messages", queue="notifier", state="ready") == 7
    assert exported("leads_queue_messages", queue="notifier", state="unacked") is None
    assert exported("leads_queue_retrying_messages", queue="notifier", level="10m") == 3
    told_at = exported("leads_queue_stats_timestamp_seconds", queue="notifier")

    with pytest.raises(BusUnavailable):
        await measure_queues(BrokerAway(), TOPOLOGY)
    assert exported("leads_queue_messages", queue="notifier", state="ready") is None
    assert exported("leads_queue_retrying_messages", queue="notifier", level="10m") is None
    assert exported("leads_queue_consumers", queue="notifier") is None
    assert exported("leads_queue_stats_timestamp_seconds", queue="notifier") == told_at


async def measured_with_outage(**options) -> list[tuple]:
    """What is logged of five failures in a row and a success."""
    answers = [BusUnavailable("RabbitMQ cannot be reached")] * 5 + [None]
    done = asyncio.Event()

    async def measure() -> None:
        answer = answers.pop(0) if answers else done.set()
        if answer is not None:
            raise answer

    with capture_logs() as logs:
        task = asyncio.create_task(measured("queues", measure, every_seconds=0.0, **options))
        async with asyncio.timeout(5):
            await done.wait()
        task.cancel()
    return [(line["event"], line.get("reason"), line.get("failures")) for line in logs]


async def test_an_outage_is_told_once_and_so_is_its_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(background, "AGAIN_SECONDS", 0.0)
    assert await measured_with_outage() == [
        ("not measured", "RabbitMQ cannot be reached", None),
        ("measured again", None, 5),
    ]


async def test_an_outage_that_the_worker_tells_is_not_told_twice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(background, "AGAIN_SECONDS", 0.0)
    assert await measured_with_outage(untold=(BusUnavailable,)) == []


async def test_what_takes_long_is_measured_seldom(monkeypatch: pytest.MonkeyPatch):
    rests = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        raise asyncio.CancelledError

    async def measure() -> None:
        await real_sleep(0.05)

    real_sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", rest)
    with suppress(asyncio.CancelledError):
        await measured("disk", measure, every_seconds=0.1)
    assert rests[0] >= background.REST_FACTOR * 0.05


async def test_a_database_is_as_large_as_its_files_and_a_folder_as_those_in_it(tmp_path: Path):
    (tmp_path / "leads.db").write_bytes(b"x" * 1000)
    (tmp_path / "leads.db-wal").write_bytes(b"x" * 300)
    (tmp_path / "resumes" / ".incoming").mkdir(parents=True)
    (tmp_path / "resumes" / "one").write_bytes(b"x" * 20)
    (tmp_path / "resumes" / ".incoming" / "half").write_bytes(b"x" * 5000)
    places = local_places(leads_db=f"sqlite:///{tmp_path}/leads.db", queue_db="amqp://leads@rabbitmq:5672/leads")
    assert places.keys() == {"leads_db"}, "RabbitMQ's disk is RabbitMQ's to tell"
    await measure_databases(places)
    await measure_folder("resumes", tmp_path / "resumes")
    assert exported("leads_stored_bytes", place="leads_db") == 1300
    assert exported("leads_stored_bytes", place="resumes") == 20
    free, capacity = (exported(f"leads_disk_{what}_bytes", place="resumes") for what in ("free", "capacity"))
    assert free is not None
    assert capacity is not None
    assert 0 < free < capacity
