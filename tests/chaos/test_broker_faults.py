"""Whatever befalls RabbitMQ under load, no lead is refused, no event is lost, and work goes on by itself.

`LEADS_CHAOS=long` kills the broker 50 times and lets it hang for 30 s.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from shared.topology import EXCHANGE
from tests.chaos.broker import Broker
from tests.chaos.rig import IS_LONG
from tests.chaos.storm import Storm

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.rabbitmq, pytest.mark.long, pytest.mark.timeout(0)]

KILLS = 50 if IS_LONG else 2
RESTARTS = 10 if IS_LONG else 1
TIMES = 5 if IS_LONG else 1
HANGS_SECONDS = (5.0, 30.0) if IS_LONG else (5.0,)
ALARM_SECONDS = 10.0 if IS_LONG else 4.0
RESUMED_SECONDS = 2.0
LEFT_IN_QUEUE = 100
BOUND = 20
MORE_THAN_ON_THE_WAY = 20
"""So many events are only marked when later ones were published than those confirmed before the harm."""
PAUSE_SECONDS = 1.0
"""Between two leads of a client: some 16 leads a second, so that a slow machine has no backlog of its own making."""

SHARE = 0.95


async def run(broker: Broker, scenario: str, harm: Callable[[], Awaitable[object]], *, times: int = TIMES) -> None:
    """Do harm so many times, each under load, with time to recover in between."""

    async def nemesis(storm: Storm) -> int:
        for _ in range(times):
            await storm.reaches(storm.answered + storm.gave_up + broker.rig.dice.randint(10, 40))
            await harm()
        await storm.reaches(storm.answered + storm.gave_up + 40)
        return times

    storm = await broker.rig.run(scenario, nemesis, leads=None, pause_seconds=PAUSE_SECONDS)
    assert storm.gave_up == 0
    assert {attempt.status for attempt in storm.ledger} == {201}, "the intake needs no broker"


@pytest.mark.parametrize(("signal", "times"), [("kill -9", KILLS), ("SIGTERM", RESTARTS)])
async def test_a_broker_that_dies_is_missed_for_two_seconds_after_it_is_back(broker: Broker, signal: str, times: int):
    resumed: list[float] = []

    async def die() -> None:
        if signal == "kill -9":
            broker.node.kill()
        resumed.append(await broker.restart())

    await run(broker, f"{signal} of RabbitMQ", die, times=times)
    resumed.sort()
    broker.rig.figure(
        f"{signal} of RabbitMQ: an event is confirmed again after it is ready",
        f"<= {RESUMED_SECONDS:.0f} s",
        f"{resumed[-1]:.2f} s at most, p95 {resumed[int(SHARE * len(resumed))]:.2f} s, of {times}",
    )


@pytest.mark.parametrize("seconds", HANGS_SECONDS)
async def test_a_broker_that_hangs_costs_time_and_nothing_else(broker: Broker, seconds: float):
    async def hang() -> None:
        broker.node.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            broker.node.resume()

    await run(broker, f"RabbitMQ hangs for {seconds:.0f} s", hang, times=1)


@pytest.mark.parametrize("what", ["memory", "disk"])
async def test_a_broker_short_of_memory_or_disk_is_waited_for(broker: Broker, what: str):
    async def starve() -> None:
        broker.node.starve(**{what: True})
        try:
            await broker.seconds_until(lambda: broker.unpublished() > 0)
            await asyncio.sleep(ALARM_SECONDS)
            assert broker.unpublished() > 0
        finally:
            broker.node.starve()

    await run(broker, f"{what} alarm of RabbitMQ", starve, times=1)


@pytest.mark.parametrize("name", [Broker.queue.name, Broker.queue.retry_levels[0].name, Broker.queue.dead_letters])
async def test_a_queue_deleted_under_load_is_declared_anew(broker: Broker, name: str):
    async def delete() -> None:
        broker.node.delete_queue(broker.vhost, name)
        await asyncio.sleep(1)

    await run(broker, f"queue {name} deleted", delete)


async def test_what_was_in_a_deleted_queue_is_published_again(broker: Broker):
    async def fill_and_delete() -> None:
        async def work() -> None:
            published = broker.published()
            await broker.seconds_until(lambda: broker.published() >= published + LEFT_IN_QUEUE)
            broker.node.delete_queue(broker.vhost, broker.queue.name)

        await broker.without_notifier(work)

    await run(broker, f"queue deleted with {LEFT_IN_QUEUE} events in it", fill_and_delete)


async def test_a_deleted_exchange_or_binding_is_declared_anew(broker: Broker):
    async def delete() -> None:
        for delete_one in (
            partial(broker.node.delete_exchange, broker.vhost, EXCHANGE),
            partial(broker.node.delete_bindings, broker.vhost, EXCHANGE, broker.queue.name),
        ):
            delete_one()
            goal = broker.published() + MORE_THAN_ON_THE_WAY
            await broker.seconds_until(lambda: broker.published() > goal)  # noqa: B023 - awaited within the round

    await run(broker, "exchange and binding deleted", delete)


async def test_a_password_that_is_changed_and_changed_back_is_waited_for(broker: Broker):
    async def change() -> None:
        broker.node.change_password("another")
        try:
            await broker.seconds_until(lambda: broker.unpublished() > 0)
            assert "password of LEADS_BROKER_URL" in await told(broker)
        finally:
            broker.node.change_password()

    await run(broker, "password changed and changed back", change, times=1)


async def told(broker: Broker) -> str:
    """The trouble that the api tells of its broker, once it does."""
    while (trouble := await broker.trouble()) == "ok":
        await asyncio.sleep(0.1)
    return trouble


async def test_a_full_queue_keeps_events_in_the_outbox_until_there_is_room(broker: Broker):
    async def fill() -> None:
        async def work() -> None:
            broker.node.bound_queue(broker.vhost, broker.queue.name, BOUND)
            await broker.seconds_until(lambda: broker.unpublished() > BOUND)

        await broker.without_notifier(work)
        broker.node.unbound_queues(broker.vhost)

    await run(broker, f"queue full with {BOUND} events, notifier away", fill, times=1)
