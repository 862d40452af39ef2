"""What RabbitMQ refuses is one clear line that says what to mend, without the password, and loses nothing."""

import pytest

from shared.bus import BusUnavailable, PublishFailed
from shared.bus.rabbitmq import RabbitBus
from shared.bus.rabbitmq import topology as declarations
from tests.harness.bus_steps import message, receive
from tests.harness.rabbitmq import RabbitNode
from tests.harness.work_queue import TOPOLOGY, WORK

pytestmark = pytest.mark.rabbitmq


async def test_a_wrong_password_is_said_in_one_line_without_it(rabbit_node: RabbitNode) -> None:
    bus = RabbitBus(rabbit_node.url(password="hunter2"), TOPOLOGY, client_name="test")
    with pytest.raises(BusUnavailable) as failure:
        await bus.open()
    assert_is_one_clear_line(failure.value, "refuses the user or the password of LEADS_BROKER_URL")
    with pytest.raises(PublishFailed, match="password of LEADS_BROKER_URL"):
        await bus.publish([message()])


async def test_a_missing_virtual_host_is_named(rabbit_node: RabbitNode) -> None:
    bus = RabbitBus(rabbit_node.url("nowhere"), TOPOLOGY, client_name="test")
    with pytest.raises(BusUnavailable) as failure:
        await bus.open()
    assert_is_one_clear_line(failure.value, "virtual host of LEADS_BROKER_URL", "nowhere")


async def test_a_broker_that_is_not_there_is_said_with_its_address() -> None:
    bus = RabbitBus("amqp://leads:hunter2@127.0.0.1:1/", TOPOLOGY, client_name="test")
    with pytest.raises(BusUnavailable) as failure:
        await bus.open()
    assert_is_one_clear_line(failure.value, "cannot be reached at LEADS_BROKER_URL", "127.0.0.1:1")


async def test_a_missing_permission_is_said(rabbit_node: RabbitNode, vhost: str) -> None:
    rabbit_node.evaluate(
        'rabbit_auth_backend_internal:add_user(<<"reader">>, <<"hunter2">>, <<"test">>),'
        f'rabbit_auth_backend_internal:set_permissions(<<"reader">>, <<"{vhost}">>,'
        ' <<"^$">>, <<"^$">>, <<".*">>, <<"test">>).'
    )
    bus = RabbitBus(f"amqp://reader:hunter2@127.0.0.1:{rabbit_node.port}/{vhost}", TOPOLOGY, client_name="test")
    with pytest.raises(BusUnavailable) as failure:
        await bus.open()
    assert_is_one_clear_line(failure.value, "may not declare", 'exchange "leads"', "leads doctor")


async def test_a_queue_that_was_declared_otherwise_is_named(
    bus: RabbitBus, rabbit_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declarations, "DELIVERY_LIMIT", 7)
    other = RabbitBus(rabbit_url, TOPOLOGY, client_name="test")
    with pytest.raises(BusUnavailable) as failure:
        await other.open()
    assert_is_one_clear_line(failure.value, 'queue "work"', "rabbitmqctl delete_queue work", "x-delivery-limit")
    with pytest.raises(PublishFailed, match="delete_queue work"):
        await other.publish([message()])


async def test_a_full_queue_says_no_and_drops_nothing(rabbit_node: RabbitNode, vhost: str, bus: RabbitBus) -> None:
    rabbit_node.evaluate(
        f'rabbit_policy:set(<<"{vhost}">>, <<"bounded">>, <<"^work$">>,'
        ' [{<<"max-length">>, 3}], 0, <<"queues">>, <<"test">>).'
    )
    published = [message() for _ in range(10)]

    async def publish_one_by_one() -> None:
        for one in published:
            await bus.publish([one])

    with pytest.raises(PublishFailed, match="refused the message") as failure:
        await publish_one_by_one()
    assert failure.value.confirmed == frozenset()
    stats = await bus.stats(WORK)
    async with bus.consume(WORK, prefetch=50) as deliveries:
        received = [await receive(deliveries) for _ in range(stats.ready)]
    assert [delivery.message.id for delivery in received] == [message.id for message in published[: len(received)]]
    assert 3 <= len(received) < 10


def assert_is_one_clear_line(error: BusUnavailable, *parts: str) -> None:
    text = str(error)
    for part in parts:
        assert part in text
    assert "\n" not in text
    assert "hunter2" not in text
