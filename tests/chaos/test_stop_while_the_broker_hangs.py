"""Rooms that are told to stop while RabbitMQ hangs, and SendGrid, too, end in time and lose nothing."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.chaos.broker import PAUSE_SECONDS, Broker
from tests.chaos.storm import Storm

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.rabbitmq, pytest.mark.long, pytest.mark.timeout(0)]

STOP_SECONDS = 10.0
"""After which a supervisor kills."""
UNNOTICED_SECONDS, NOTICED_SECONDS = 1.0, 16.0
"""A silent broker is noticed within 13 s: from then on the rooms are trying to connect."""

USERS = ("api", "notifier")
"""Those rooms that use RabbitMQ."""


@pytest.mark.parametrize("hung_seconds", [UNNOTICED_SECONDS, NOTICED_SECONDS])
async def test_rooms_that_are_told_to_stop_while_the_broker_hangs_end_in_time(broker: Broker, hung_seconds: float):
    """Twice: those that were working when it began to hang, and those that were started while it hung."""
    took_seconds: list[float] = []

    async def nemesis(storm: Storm) -> int:
        await storm.reaches(40)
        async with hanging(broker):
            await asyncio.sleep(hung_seconds)
            took_seconds.extend(await stop(broker))
            for room in USERS:
                await broker.rig.deployment.restart(room)
            await storm.reaches(storm.answered + 20)
            took_seconds.extend(await stop(broker))
        for room in USERS:
            await broker.rig.deployment.restart(room)
        return len(took_seconds)

    scenario = f"SIGTERM after RabbitMQ has hung for {hung_seconds:.0f} s"
    await broker.rig.run(scenario, nemesis, leads=None, pause_seconds=PAUSE_SECONDS)
    broker.rig.figure(
        f"{scenario}, and SendGrid: exit", f"<= {STOP_SECONDS:.0f} s", f"{max(took_seconds):.1f} s at most"
    )
    assert max(took_seconds) <= STOP_SECONDS


@asynccontextmanager
async def hanging(broker: Broker) -> AsyncIterator[None]:
    """First SendGrid, so that the notifier has its hands full, then RabbitMQ."""
    sendgrid = broker.rig.house.sendgrid
    assert sendgrid is not None
    sendgrid.behave("hang")
    await asyncio.sleep(1)
    broker.node.pause()
    try:
        yield
    finally:
        broker.node.resume()
        sendgrid.behave("accept")


async def stop(broker: Broker) -> list[float]:
    """SIGTERM of both at once; how long each took to its exit with status 0, in seconds."""

    async def stop_one(room: str) -> float:
        began_at = time.monotonic()
        assert await broker.rig.deployment.stop(room) == 0
        return time.monotonic() - began_at

    return await asyncio.gather(*map(stop_one, USERS))
