"""Relay: how many events a second one api process publishes to RabbitMQ, confirmed and marked, from a full outbox."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from bench.events import events
from bench.figures import Result, Table, at_least, number, spread
from bench.kept import count
from bench.peers.leads import broker
from bench.peers.protocol import Lost
from bench.rounds import own_folder, say
from bench.size import Size
from services.api import setup
from shared import outbox
from shared.bus import bus_for
from shared.database import Database
from shared.topology import NOTIFIER_QUEUE, leads_topology
from tests.harness.deployment import Deployment
from tests.harness.kept import rows

AT_ONCE = 1_000
STALLED_SECONDS = 60.0
TARGET_PER_SECOND = 5_000
ABOUT = (
    "An outbox of {events:,} events of real size and an api process that finds it at its start; no other load. Counted"
    " from the first batch that was marked to the last; the queue was looked at afterwards and had them all."
)


async def measure(size: Size, folder: Path) -> Result:
    """In rounds, each with a broker and an outbox of its own."""
    rates = [await _round(size, folder) for _ in range(size.rounds)]
    middle = statistics.median(rates)
    figure = at_least("relay, RabbitMQ, confirmed events from one process", middle, TARGET_PER_SECOND, "events/s")
    table = Table("Relay", ("bus", "events/s"), (("RabbitMQ, quorum queue", spread(rates)),))
    return Result(ABOUT.format(events=size.events), (figure,), (table,))


async def _round(size: Size, folder: Path) -> float:
    with own_folder(folder, "relay") as room:
        async with broker(room / "rabbitmq") as node:
            deployment = Deployment(room, {"LEADS_BROKER_URL": node.url()})
            await _fill(deployment, size.events)
            deployment.launch("api")
            try:
                await _published(deployment)
            finally:
                deployment.end()
            await _check(node.url(), size.events)
            marked = rows(
                deployment.data / "leads.db",
                "SELECT (julianday(published_at) - 2440587.5) * 86400, count(*) FROM outbox GROUP BY 1 ORDER BY 1",
            )
    say(f"relay: {number(per_second(marked))} events/s")
    return per_second(marked)


def per_second(marked: Sequence[tuple[float, int]]) -> float:
    """Of batches (when each was marked, in seconds, and how many it had): the first is where counting begins.

    Raises `ValueError` when there are fewer than two.
    """
    if len(marked) < 2:
        raise ValueError("a rate needs two batches at least: publish more events")
    return sum(many for _, many in marked[1:]) / (marked[-1][0] - marked[0][0])


async def _fill(deployment: Deployment, total: int) -> None:
    deployment.data.mkdir(parents=True)
    await setup.prepare(deployment.settings())
    database = Database(f"sqlite:///{deployment.data / 'leads.db'}")
    for begin in range(0, total, AT_ONCE):
        await database.write(partial(outbox.add, events=events(min(AT_ONCE, total - begin))))
    await database.close()


async def _published(deployment: Deployment) -> None:
    """Wait until all is marked as published. Raises `Lost` when it no longer goes on."""
    left, moved_at = -1, time.monotonic()
    while left != 0:
        before, left = left, count(deployment.leads_db, "outbox", "published_at IS NULL")
        if left != before:
            moved_at = time.monotonic()
        elif time.monotonic() > moved_at + STALLED_SECONDS:
            raise Lost(f"{left:,} events are not published: {deployment.log_file('api').read_text()[-2000:]}")
        await asyncio.sleep(0.1)


async def _check(url: str, total: int) -> None:
    topology = leads_topology()
    async with bus_for(url, topology, client_name="bench") as bus:
        stats = await bus.stats(topology.queue(NOTIFIER_QUEUE))
    if stats.ready < total:
        raise Lost(f"{total:,} events were marked as published, the queue has {stats.ready:,}")
