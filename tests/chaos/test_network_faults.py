"""Whatever the network does between the rooms and RabbitMQ under load: it is noticed, and nothing is lost or stuck."""

import asyncio
from functools import partial

import pytest

from tests.chaos.broker import Broker
from tests.chaos.rig import IS_LONG

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.rabbitmq, pytest.mark.long, pytest.mark.timeout(0)]

RESETS = 50 if IS_LONG else 3
LEADS = 2_000 if IS_LONG else 200
TIMES = 5 if IS_LONG else 1
NOTICED_SECONDS = 15.0


async def test_connections_that_are_reset_lose_nothing(broker: Broker):
    async def reset() -> None:
        await broker.seconds_until(lambda: broker.proxy.reset() > 0)  # the rooms may just be away themselves

    nemesis = broker.rig.at_random(reset, times=RESETS, leads=LEADS)
    storm = await broker.rig.run("connections to RabbitMQ reset", nemesis, leads=LEADS)
    assert {attempt.status for attempt in storm.ledger} == {201}, "the intake needs no broker"


@pytest.mark.parametrize(
    ("where", "directions"),
    [
        ("both ways", {}),
        ("to RabbitMQ", {"to_client": False}),
        ("from RabbitMQ", {"to_target": False}),
    ],
)
async def test_a_black_hole_is_noticed_by_both_rooms(broker: Broker, where: str, directions: dict[str, bool]):
    noticed: dict[str, list[float]] = {"api": [], "notifier": []}

    async def swallow() -> None:
        told = {room: broker.warnings(room) for room in noticed}
        broker.proxy.black_hole(**directions)
        try:
            waits = [broker.seconds_until(partial(more_warnings, broker, room, told[room])) for room in noticed]
            for room, seconds in zip(noticed, await asyncio.gather(*waits), strict=True):
                noticed[room].append(seconds)
        finally:
            await broker.proxy.heal()

    await broker.suffer(f"black hole {where}", swallow, times=TIMES)
    for room, seconds in noticed.items():
        broker.rig.time(f"black hole {where}: noticed by the {room}", seconds, target_seconds=NOTICED_SECONDS)


def more_warnings(broker: Broker, room: str, than: int) -> bool:
    return broker.warnings(room) > than


async def test_half_open_connections_are_noticed_and_made_anew(broker: Broker):
    noticed: list[float] = []

    async def halve() -> None:
        assert broker.proxy.leave_half_open() > 0
        newest = broker.newest_lead()
        noticed.append(await broker.seconds_until(lambda: broker.is_sent_after(newest)))

    await broker.suffer("connections left half open", halve, times=TIMES)
    promise = "connections left half open: e-mails go out again"
    broker.rig.time(promise, noticed, target_seconds=NOTICED_SECONDS)


async def test_a_network_that_is_slow_or_away_is_waited_for(broker: Broker):
    async def slow_then_away() -> None:
        broker.proxy.delay_seconds = 0.5
        await asyncio.sleep(5)
        await broker.proxy.refuse()
        broker.proxy.reset()
        await asyncio.sleep(5)
        await broker.proxy.heal()

    await broker.suffer("network slow by 0.5 s, then away for 5 s", slow_then_away, times=TIMES)
