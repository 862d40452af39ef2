"""Whatever befalls RabbitMQ under load, no lead is refused, no event is lost, and work goes on by itself.

`LEADS_CHAOS=long` kills the broker 50 times and lets it hang for 30 s.
"""

import asyncio
from functools import partial

import pytest

from shared.topology import EXCHANGE
from tests.chaos.broker import PATIENCE_SECONDS, Broker
from tests.chaos.rig import IS_LONG

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
SHARE = 0.95


@pytest.mark.parametrize(("signal", "times"), [("kill -9", KILLS), ("SIGTERM", RESTARTS)])
async def test_a_broker_that_dies_is_missed_for_two_seconds_after_it_is_back(broker: Broker, signal: str, times: int):
    resumed: list[float] = []

    async def die() -> None:
        if signal == "kill -9":
            broker.node.crash()
        resumed.append(await broker.restart())

    await broker.suffer(f"{signal} of RabbitMQ", die, times=times)
    resumed.sort()
    broker.rig.time(
        f"{signal} of RabbitMQ: an event is confirmed again after it is ready",
        resumed,
        target_seconds=RESUMED_SECONDS,
        told=f", p95 {resumed[int(SHARE * len(resumed))]:.2f} s",
    )


@pytest.mark.parametrize("seconds", HANGS_SECONDS)
async def test_a_broker_that_hangs_costs_time_and_nothing_else(broker: Broker, seconds: float):
    async def hang() -> None:
        broker.node.pause()
        try:
            await asyncio.sleep(seconds)
        finally:
            broker.node.resume()

    await broker.suffer(f"RabbitMQ hangs for {seconds:.0f} s", hang, times=1)


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

    await broker.suffer(f"{what} alarm of RabbitMQ", starve, times=1)


@pytest.mark.parametrize("name", [Broker.queue.name, Broker.queue.retry_levels[0].name, Broker.queue.dead_letters])
async def test_a_queue_deleted_under_load_is_declared_anew(broker: Broker, name: str):
    async def delete() -> None:
        broker.node.delete_queue(broker.vhost, name)
        await broker.seconds_until(lambda: broker.node.has_queue(broker.vhost, name))

    await broker.suffer(f"queue {name} deleted", delete, times=TIMES)


async def test_what_was_in_a_deleted_queue_is_published_again(broker: Broker):
    async def fill_and_delete() -> None:
        async def work() -> None:
            published = broker.published()
            await broker.seconds_until(lambda: broker.published() >= published + LEFT_IN_QUEUE)
            broker.node.delete_queue(broker.vhost, broker.queue.name)

        await broker.without_notifier(work)

    await broker.suffer(f"queue deleted with {LEFT_IN_QUEUE} events in it", fill_and_delete, times=TIMES)


async def test_a_queue_whose_name_rabbitmq_lost_in_a_crash_is_deleted_and_filled_again(broker: Broker):
    """It comes up without what it had, and without a leader, until somebody deletes it (docs/runbook.md)."""

    async def crash() -> None:
        async def work() -> None:
            published = broker.published()
            await broker.seconds_until(lambda: broker.published() >= published + LEFT_IN_QUEUE)
            broker.node.crash_without_name(broker.vhost, broker.queue.name)
            await asyncio.to_thread(broker.node.restart)
            await broker.seconds_until(lambda: broker.unpublished() > 0)
            broker.node.delete_queue(broker.vhost, broker.queue.name)

        await broker.without_notifier(work)

    await broker.suffer(f"queue lost with {LEFT_IN_QUEUE} events by a crash after its declaration", crash, times=1)


async def test_a_deleted_exchange_or_binding_is_declared_anew(broker: Broker):
    async def delete() -> None:
        for delete_one in (
            partial(broker.node.delete_exchange, broker.vhost, EXCHANGE),
            partial(broker.node.delete_bindings, broker.vhost, EXCHANGE, broker.queue.name),
        ):
            delete_one()
            goal = broker.published() + MORE_THAN_ON_THE_WAY
            await broker.seconds_until(lambda: broker.published() > goal)  # noqa: B023 - awaited within the round

    await broker.suffer("exchange and binding deleted", delete, times=TIMES)


async def test_a_password_that_is_changed_and_changed_back_is_waited_for(broker: Broker):
    async def change() -> None:
        broker.node.change_password("another")
        try:
            await broker.seconds_until(lambda: broker.unpublished() > 0)
            await it_is_told(broker, "password of LEADS_BROKER_URL")
        finally:
            broker.node.change_password()

    await broker.suffer("password changed and changed back", change, times=1)


async def it_is_told(broker: Broker, words: str) -> None:
    """Wait until the api says so of its broker. What it says first may be how its connection ended."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while words not in await broker.trouble():
            await asyncio.sleep(0.1)


async def test_a_full_queue_keeps_events_in_the_outbox_until_there_is_room(broker: Broker):
    async def fill() -> None:
        async def work() -> None:
            broker.node.bound_queue(broker.vhost, broker.queue.name, BOUND)
            await broker.seconds_until(lambda: broker.unpublished() > BOUND)

        await broker.without_notifier(work)
        broker.node.unbound_queues(broker.vhost)

    await broker.suffer(f"queue full with {BOUND} events, notifier away", fill, times=1)
