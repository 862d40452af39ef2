"""RabbitMQ as a cluster of three: any one node may die under load, and so may two; `make cluster-test`.

`LEADS_CHAOS=long` kills each node five times.
"""

import asyncio

import pytest
import pytest_asyncio

from shared.bus import bus_for
from shared.bus.rabbitmq.topology import arguments_of
from tests.chaos.broker import Broker
from tests.chaos.rig import IS_LONG, SETTINGS, Rig
from tests.harness.missing import cannot_run
from tests.harness.rabbitmq import MISSING, Family, find_rabbitmq
from tests.harness.rabbitmq_cluster import NODES, RabbitCluster
from tests.harness.sizes import CLUSTERED, at_scale

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.rabbitmq, pytest.mark.long, pytest.mark.timeout(0)]

ROUNDS = 5 if IS_LONG else 1
FLOWS_SECONDS = 10.0
SILENCE_NOTICED_SECONDS = 1.25 * Family.net_tick_seconds
"""At the latest, by Erlang (https://www.erlang.org/doc/apps/kernel/kernel_app.html#net_ticktime)."""

ON_THE_WAY_SECONDS = 1.0
"""After so long, what was on its way when a node stopped has arrived, or waits for somebody to notice."""

WAITING = 20
"""So many events in the outbox are not just on their way."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if find_rabbitmq() is None:
        cannot_run(MISSING)
    cluster = RabbitCluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory, cluster, verdicts):
    """The rig of a deployment whose `LEADS_BROKER_URL` names all nodes."""
    async with at_scale(tmp_path_factory.mktemp(CLUSTERED), cluster, SETTINGS) as house:
        url = house.deployment.environment["LEADS_BROKER_URL"]
        async with bus_for(url, Broker.topology, client_name="chaos"):
            pass  # declared by now, whichever room was on the way to it
        yield Broker(Rig(house, CLUSTERED, verdicts), cluster, proxy=None)


async def test_every_queue_has_a_copy_on_each_node(broker: Broker, cluster: RabbitCluster):
    names = [name for name, _ in arguments_of(broker.queue)]
    assert {name: cluster.members(broker.vhost, name) for name in names} == dict.fromkeys(names, NODES)


async def test_any_node_may_be_killed_under_load(broker: Broker, cluster: RabbitCluster):
    flows: list[float] = []
    victims = iter(cluster.nodes * ROUNDS)

    async def kill_the_next() -> None:
        victim = next(victims)
        victim.kill()
        newest = broker.newest_lead()
        flows.append(await broker.seconds_until(lambda: broker.is_sent_after(newest)))
        await bring_back(cluster)

    await broker.suffer("kill -9 of each node of the cluster", kill_the_next, times=NODES * ROUNDS)
    promise = "kill -9 of one node of three: a lead sent after it is e-mailed"
    broker.rig.time(promise, flows, target_seconds=FLOWS_SECONDS)


async def test_without_a_majority_events_wait_and_flow_when_one_node_is_back(broker: Broker, cluster: RabbitCluster):
    flows: list[float] = []

    async def leave_one() -> None:
        back, away = broker.rig.dice.sample(cluster.nodes, 2)
        for node in (back, away):
            node.kill()
        await broker.seconds_until(lambda: broker.unpublished() > WAITING)
        newest = broker.newest_lead()
        await asyncio.to_thread(back.restart)
        flows.append(await broker.seconds_until(lambda: broker.is_sent_after(newest)))
        await bring_back(cluster)

    await broker.suffer("two nodes of three killed, then one is back", leave_one, times=ROUNDS)
    promise = "two nodes of three killed: a lead sent meanwhile is e-mailed after one is ready again"
    broker.rig.time(promise, flows, target_seconds=FLOWS_SECONDS)


async def test_a_node_whose_machine_falls_silent_costs_time_and_nothing_else(broker: Broker, cluster: RabbitCluster):
    flows: list[float] = []
    victims = iter(cluster.nodes * ROUNDS)

    async def fall_silent() -> None:
        victim = next(victims)
        victim.pause()
        try:
            await asyncio.sleep(ON_THE_WAY_SECONDS)
            newest = broker.newest_lead()
            flows.append(await broker.seconds_until(lambda: broker.is_sent_after(newest)))
        finally:
            victim.kill()  # RabbitMQ asks to start a node anew that stood still: it does not rejoin by itself
        await bring_back(cluster)

    await broker.suffer("each node of three falls silent", fall_silent, times=NODES * ROUNDS)
    promise = "one node of three falls silent, as when its machine loses power: a lead sent meanwhile is e-mailed"
    broker.rig.time(promise, flows, target_seconds=SILENCE_NOTICED_SECONDS)


async def bring_back(cluster: RabbitCluster) -> None:
    """All nodes up, and every queue whole on each: the next harm meets a cluster that is well."""
    await asyncio.to_thread(cluster.start)
    await asyncio.to_thread(cluster.wait_until_whole)
