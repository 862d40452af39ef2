"""RabbitMQ is away for long: the intake is as fast as ever, and what waits in the outbox flows when it is back.

`LEADS_CHAOS=long` leaves it away for ten minutes, and lets 50,000 events wait.
"""

import asyncio
import time
from datetime import datetime
from functools import partial

import pytest

from shared import outbox
from shared.bus import bus_for
from shared.database import Database
from shared.events import Event
from tests.chaos.broker import Broker
from tests.chaos.rig import IS_LONG, SETTINGS, Rig
from tests.chaos.storm import Storm
from tests.harness.deployment import Deployment
from tests.harness.events import event
from tests.harness.kept import rows
from tests.harness.sizes import AT_SCALE, EMBEDDED, House, at_scale, embedded

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long, pytest.mark.timeout(0)]

AWAY_SECONDS = 600.0 if IS_LONG else 10.0
PRESENT_SECONDS = 60.0 if IS_LONG else 10.0
"""Before and after it is away: what the intake takes with a broker is measured around that."""

PAUSE_SECONDS = 2.0 if IS_LONG else 0.2
"""Some eight leads a second in the long form: what waits after ten minutes is e-mailed within the minute that the rig
gives, at the 400 e-mails a second of one notifier."""

BACKLOG = 50_000 if IS_LONG else 10_000
AT_ONCE = 5_000
EVENTS_PER_SECOND = 2_000
SHARE = 0.95


@pytest.mark.rabbitmq
async def test_without_its_broker_the_intake_is_as_fast_as_with_it(broker: Broker):
    away_from = back_at = 0.0

    async def go_away(_storm: Storm) -> int:
        nonlocal away_from, back_at
        await asyncio.sleep(PRESENT_SECONDS)
        broker.node.crash()
        away_from = time.monotonic()
        await asyncio.sleep(AWAY_SECONDS)
        back_at = time.monotonic()
        await broker.restart()
        await asyncio.sleep(PRESENT_SECONDS)
        return 1

    storm = await broker.rig.run("RabbitMQ away", go_away, leads=None, pause_seconds=PAUSE_SECONDS)
    assert {attempt.status for attempt in storm.ledger} == {201}
    away = p95([seconds for began_at, seconds in storm.waits if away_from <= began_at < back_at])
    present = p95([seconds for began_at, seconds in storm.waits if not away_from <= began_at < back_at])
    broker.rig.figure(
        f"intake while RabbitMQ is away for {AWAY_SECONDS:.0f} s",
        "100 % 201; p95 <= 1.1 x that with it",
        f"100 % 201; {1000 * away:.0f} ms, {away / present:.2f} x {1000 * present:.0f} ms",
    )
    assert away < 2 * present, "its absence is not felt; the figure says how little"


def p95(seconds: list[float]) -> float:
    return sorted(seconds)[int(SHARE * len(seconds))]


@pytest.mark.parametrize("size", [EMBEDDED, pytest.param(AT_SCALE, marks=pytest.mark.rabbitmq)])
async def test_a_backlog_flows_to_the_last_event(size, request, tmp_path_factory, verdicts):
    folder = tmp_path_factory.mktemp(f"backlog-{size}")
    if size == EMBEDDED:
        async with embedded(folder, SETTINGS) as house:
            await drain(Rig(house, size, verdicts))
    else:
        async with at_scale(folder, request.getfixturevalue("rabbit_node"), SETTINGS) as house:
            await drain(Rig(house, size, verdicts))


async def drain(rig: Rig) -> None:
    """Let events wait while neither api nor notifier is there; then measure the api's relay alone."""
    for room in ("api", "notifier"):
        await rig.deployment.stop(room)
    await fill(rig.deployment, [event() for _ in range(BACKLOG)])
    await rig.deployment.restart("api")
    while (left := count(rig.deployment, "published_at IS NULL")) > 0:
        print(f"{left} events wait", flush=True)
        await asyncio.sleep(1)
    assert await in_queue(rig.house) == BACKLOG
    rate = BACKLOG / seconds_of_publishing(rig.deployment)
    rig.figure(f"a backlog of {BACKLOG:,} events", f">= {EVENTS_PER_SECOND:,} events/s", f"{rate:,.0f} events/s")
    assert rate > EVENTS_PER_SECOND / 4, "far from it, which no busy machine explains"


async def fill(deployment: Deployment, events: list[Event]) -> None:
    """Into the outbox, as the intake would have."""
    database = Database(f"sqlite:///{deployment.data / 'leads.db'}")
    for begin in range(0, len(events), AT_ONCE):
        await database.write(partial(outbox.add, events=events[begin : begin + AT_ONCE]))
    await database.close()


def count(deployment: Deployment, which: str) -> int:
    return int(rows(deployment.leads_db, f"SELECT count(*) FROM outbox WHERE {which}")[0][0])


def seconds_of_publishing(deployment: Deployment) -> float:
    """From the first mark to the last."""
    query = "SELECT min(published_at), max(published_at) FROM outbox"
    first, last = (datetime.fromisoformat(moment) for moment in rows(deployment.leads_db, query)[0])
    return (last - first).total_seconds()


async def in_queue(house: House) -> int:
    url = house.deployment.environment.get("LEADS_BROKER_URL", f"sqlite:///{house.deployment.data / 'queue.db'}")
    async with bus_for(url, Broker.topology, client_name="chaos") as bus:
        return (await bus.stats(Broker.queue)).ready
