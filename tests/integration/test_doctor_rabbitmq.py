"""What `leads doctor` says of a RabbitMQ that is not as it should be, each made wrong in a real node."""

import dataclasses
from collections.abc import AsyncIterator

import pytest

from services.cli.doctor.patient import RoomName
from services.cli.doctor.rabbitmq import check_rabbitmq
from services.cli.doctor.report import Finding, State, exit_status
from shared.bus import Message
from shared.bus.rabbitmq import RabbitBus
from shared.bus.rabbitmq import topology as declarations
from shared.bus.rabbitmq.permissions import Permissions, to_consume, to_do_all, to_publish
from shared.ids import new_id
from shared.topology import leads_topology
from tests.harness.rabbitmq import RabbitNode

pytestmark = [pytest.mark.rabbitmq, pytest.mark.long]

DELAY_SECONDS = 0.2
TOPOLOGY = leads_topology((DELAY_SECONDS,))
(QUEUE,) = TOPOLOGY.queues
ALL = tuple(RoomName)
EVENT = "lead.created"


@pytest.fixture
def vhost(rabbit_url: str) -> str:
    return rabbit_url.rsplit("/", 1)[1]


@pytest.fixture
async def bus(rabbit_url: str) -> AsyncIterator[RabbitBus]:
    """With everything declared."""
    async with RabbitBus(rabbit_url, TOPOLOGY, client_name="test") as bus:
        yield bus


async def look(url: str, *rooms: RoomName) -> list[Finding]:
    return await check_rabbitmq(rooms or ALL, url, TOPOLOGY)


def the_failed(findings: list[Finding]) -> Finding:
    (found,) = [finding for finding in findings if finding.state is State.FAILED]
    assert "\n" not in found.found + found.mend
    return found


async def test_a_broker_that_is_well_is_found_so_and_left_as_it_was(rabbit_url, bus):
    await bus.publish([Message(new_id(), EVENT, b"{}")])
    async with bus.consume(QUEUE, prefetch=1) as deliveries:
        await (await anext(deliveries)).dead_letter("never")
        await bus.publish([Message(new_id(), EVENT, b"{}")])
        in_hand = await anext(deliveries)
        before = await bus.stats(QUEUE)
        findings = await look(rabbit_url)
        assert await bus.stats(QUEUE) == before
        await in_hand.ack()
    assert exit_status(findings) == 0
    (dead,) = [finding for finding in findings if finding.state is State.WARNING]
    assert "1 dead letters in notifier" in dead.found
    assert "leads queues peek" in dead.mend


async def test_a_wrong_password_names_the_setting_and_the_command(rabbit_node):
    found = the_failed(await look(rabbit_node.url(password="hunter2")))
    assert "refuses the user or the password of LEADS_BROKER_URL" in found.found
    assert "rabbitmqctl change_password leads" in found.mend
    assert "hunter2" not in found.found + found.mend


async def test_a_missing_virtual_host_comes_with_the_commands_that_make_it(rabbit_node):
    found = the_failed(await look(rabbit_node.url("nowhere")))
    assert "does not open the virtual host of LEADS_BROKER_URL" in found.found
    assert "rabbitmqctl add_vhost nowhere; rabbitmqctl set_permissions -p nowhere leads" in found.mend


async def test_a_broker_that_does_not_listen_is_said(rabbit_node):
    found = the_failed(await look("amqp://leads:hunter2@127.0.0.1:1/"))
    assert "cannot be reached at LEADS_BROKER_URL (amqp://leads:***@127.0.0.1:1/" in found.found
    assert "Start RabbitMQ" in found.mend


async def test_a_node_of_a_cluster_that_is_away_is_a_warning_that_names_it(rabbit_url, bus):
    findings = await look(rabbit_url.replace("@", "@127.0.0.1:1,"))
    assert exit_status(findings) == 0
    (away,) = [finding for finding in findings if "One node" in finding.found]
    assert away.state is State.WARNING
    assert "@127.0.0.1:1/" in away.found


async def test_a_queue_with_other_arguments_comes_with_the_command_that_deletes_it(rabbit_url, vhost, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(declarations, "DELIVERY_LIMIT", 7)
        async with RabbitBus(rabbit_url, TOPOLOGY, client_name="earlier"):
            pass
    found = the_failed(await look(rabbit_url))
    assert 'has the queue "notifier" with other arguments' in found.found
    assert "x-delivery-limit" in found.found
    assert f"rabbitmqctl delete_queue -p {vhost} notifier" in found.mend
    assert "LEADS_BROKER_URL" in found.mend


async def test_what_is_not_declared_yet_is_no_failure_and_is_not_made_by_looking(rabbit_url):
    findings = await look(rabbit_url)
    assert exit_status(findings) == 0
    (missing,) = [finding for finding in findings if finding.state is State.WARNING]
    assert (
        "has no notifier.renewals, notifier.dead, notifier, notifier.retry.200ms, leads in the virtual host"
        in missing.found
    )
    assert "start it" in missing.mend
    assert [one.found for one in await look(rabbit_url)] == [one.found for one in findings]


async def test_nobody_who_consumes_is_a_warning(rabbit_url, bus):
    await bus.publish([Message(new_id(), EVENT, b"{}")])
    (found,) = [finding for finding in await look(rabbit_url) if finding.state is State.WARNING]
    assert found.found == "Nobody consumes notifier, where 1 events wait."
    async with bus.consume(QUEUE, prefetch=1) as deliveries:
        delivery = await anext(deliveries)
        assert not delivery.redelivered, "the doctor has taken nothing to look at it"
        await delivery.ack()


async def test_a_broker_that_runs_out_of_memory_is_said(rabbit_node, rabbit_url, bus):
    rabbit_node.evaluate("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).")
    try:
        found = the_failed(await look(rabbit_url))
    finally:
        rabbit_node.evaluate("rabbit_alarm:clear_alarm({resource_limit, memory, node()}).")
    assert "out of memory or disk" in found.found
    assert "rabbitmq-diagnostics alarms" in found.mend


# Permissions


def user_with(node: RabbitNode, vhost: str, permissions: Permissions) -> str:
    return node.add_user("limited", vhost, **dataclasses.asdict(permissions))


@pytest.mark.parametrize(
    ("rooms", "needed"),
    [
        pytest.param((RoomName.API,), to_publish(TOPOLOGY), id="api"),
        pytest.param((RoomName.NOTIFIER,), to_consume(TOPOLOGY), id="notifier"),
        pytest.param(ALL, to_do_all(TOPOLOGY), id="one-user-for-all"),
    ],
)
async def test_what_each_room_needs_is_enough_and_each_part_that_is_missing_is_named(
    rabbit_node, vhost, bus, rooms, needed
):
    assert exit_status(await look(user_with(rabbit_node, vhost, needed), *rooms)) == 0
    for permission in ("configure", "write", "read"):
        if getattr(needed, permission) == "^$":
            continue
        url = user_with(rabbit_node, vhost, dataclasses.replace(needed, **{permission: "^$"}))
        failures = [finding for finding in await look(url, *rooms) if finding.state is State.FAILED]
        assert failures, permission
        assert any(f"permission to {permission}" in finding.found for finding in failures)
        assert {finding.mend for finding in failures} == {needed.command("limited", vhost)}


async def test_the_least_permissions_do_for_the_whole_way(rabbit_node, vhost):
    """The notifier declares, the api publishes, an event is retried, dies and is replayed."""
    consumer_url = user_with(rabbit_node, vhost, to_consume(TOPOLOGY))
    async with RabbitBus(consumer_url, TOPOLOGY, client_name="notifier") as notifier:
        publisher_url = rabbit_node.add_user("publisher", vhost, **dataclasses.asdict(to_publish(TOPOLOGY)))
        async with RabbitBus(publisher_url, TOPOLOGY, client_name="api") as api:
            await api.publish([Message(new_id(), EVENT, b"{}")])
        async with notifier.consume(QUEUE, prefetch=1) as deliveries:
            await (await anext(deliveries)).retry(DELAY_SECONDS, "later")
            again = await anext(deliveries)
            assert again.attempt == 2
            await again.dead_letter("never")
        everything_url = rabbit_node.add_user("ops", vhost, **dataclasses.asdict(to_do_all(TOPOLOGY)))
        async with RabbitBus(everything_url, TOPOLOGY, client_name="cli") as ops:
            assert await ops.replay(QUEUE) == 1
            assert await ops.purge(QUEUE) == 0
