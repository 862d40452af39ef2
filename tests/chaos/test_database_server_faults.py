"""Whatever befalls the database server under load, leads are refused for a while at most, and none is lost.

`LEADS_CHAOS=long` kills the server 50 times and lets it hang for 30 s.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import pytest_asyncio

from tests.chaos.rig import IN_HAND, IS_LONG, SETTINGS, Rig
from tests.chaos.storm import Storm
from tests.harness import mariadb, postgresql
from tests.harness.mariadb import MariaServer
from tests.harness.postgresql import PostgresServer
from tests.harness.sizes import ON_MARIADB, ON_POSTGRESQL, on_mariadb, on_postgresql

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.rabbitmq,
    pytest.mark.long,
    pytest.mark.timeout(0 if IS_LONG else 300),
]

KILLS = 50 if IS_LONG else 3
RESTARTS = 10 if IS_LONG else 1
HANGS_SECONDS = (5.0, 30.0) if IS_LONG else (15.0,)
"""Shorter and longer than the rooms wait for an answer (12 s)."""

LOCKED_SECONDS = 10.0
AGAIN_SECONDS = 5.0
PAUSE_SECONDS = 0.5
DOWN_SECONDS = 1.0


Server = PostgresServer | MariaServer


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("postgres", marks=pytest.mark.postgresql, id="postgresql"),
        pytest.param("maria", marks=pytest.mark.mariadb, id="mariadb"),
    ],
)
def server(request) -> Server:
    return request.getfixturevalue(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory, server: Server, rabbit_node, verdicts):
    size, deployed = (ON_MARIADB, on_mariadb) if isinstance(server, MariaServer) else (ON_POSTGRESQL, on_postgresql)
    async with deployed(tmp_path_factory.mktemp(size), server, rabbit_node, SETTINGS) as house:
        yield Rig(house, size, verdicts)


async def suffer(
    rig: Rig, scenario: str, harm: Callable[[], Awaitable[object]], *, times: int, repeated: int = 0
) -> None:
    """Do harm so many times under load, and see how soon a lead is taken after each. `harm` returns when it is over."""
    again: list[float] = []

    async def nemesis(storm: Storm) -> int:
        for _ in range(times):
            await storm.reaches(storm.answered + storm.gave_up + rig.dice.randint(10, 40))
            await harm()
            over_at, answered = time.monotonic(), storm.answered
            while storm.answered == answered:
                await asyncio.sleep(0.02)
            again.append(time.monotonic() - over_at)
        await storm.reaches(storm.answered + storm.gave_up + 40)
        return times

    storm = await rig.run(scenario, nemesis, leads=None, repeated=repeated, pause_seconds=PAUSE_SECONDS)
    refused = sum(attempt.status == 503 for attempt in storm.ledger)
    promise = f"{scenario}: a lead is taken again"
    rig.time(promise, again, target_seconds=AGAIN_SECONDS, told=f"; {refused} × 503")
    assert {attempt.status for attempt in storm.ledger} <= {201, 503, None}


async def test_a_server_that_is_killed_and_started_again_lost_nothing(rig: Rig, server: Server):
    async def kill() -> None:
        server.kill()
        await asyncio.sleep(rig.dice.uniform(0, DOWN_SECONDS))
        await asyncio.to_thread(server.start)

    await suffer(rig, f"kill -9 of {server.name}", kill, times=KILLS, repeated=IN_HAND * KILLS)


async def test_a_server_that_is_restarted_in_order_lost_nothing(rig: Rig, server: Server):
    restart = partial(asyncio.to_thread, server.restart)
    await suffer(rig, f"restart of {server.name}", restart, times=RESTARTS, repeated=IN_HAND * RESTARTS)


@pytest.mark.parametrize("seconds", HANGS_SECONDS)
async def test_a_server_that_hangs_costs_time_and_nothing_else(rig: Rig, server: Server, seconds: float):
    async def hang() -> None:
        server.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            server.resume()

    await suffer(rig, f"{server.name} hangs for {seconds:.0f} s", hang, times=1, repeated=IN_HAND)


@pytest.mark.parametrize("table", ["leads", "outbox", "emails"])
async def test_a_table_that_is_locked_for_ten_seconds_loses_nothing(rig: Rig, server: Server, table: str):
    setting = "LEADS_NOTIFIER_DATABASE_URL" if table == "emails" else "LEADS_DATABASE_URL"
    url = rig.deployment.environment[setting]

    async def lock() -> None:
        if isinstance(server, MariaServer):
            with mariadb.holding(url, f"LOCK TABLES {table} WRITE"):
                await asyncio.sleep(LOCKED_SECONDS)
        else:
            statement = f"DO $$ BEGIN LOCK TABLE {table}; PERFORM pg_sleep({LOCKED_SECONDS}); END $$"
            await asyncio.to_thread(postgresql.query, url, statement)

    await suffer(rig, f"{table} locked for {LOCKED_SECONDS:.0f} s", lock, times=1)


async def test_sessions_that_an_administrator_ends_are_opened_anew(rig: Rig, server: Server):
    async def end() -> None:
        assert await asyncio.to_thread(server.end_sessions) > 0

    await suffer(rig, "all sessions ended", end, times=KILLS, repeated=IN_HAND * KILLS)
