"""What others do at RabbitMQ by hand, and what it does by itself, is healed or taken for what it is."""

import asyncio

import pytest

from shared.bus import Message
from shared.bus.rabbitmq import RabbitBus
from shared.bus.rabbitmq import topology as declarations
from shared.ids import new_id
from tests.harness.bus_steps import ARRIVAL_SECONDS, HAPPENED, message, publish_until_confirmed, receive
from tests.harness.rabbitmq import RabbitNode
from tests.harness.work_queue import DELAY_SECONDS, TOPOLOGY, WORK

pytestmark = pytest.mark.rabbitmq


async def test_a_deleted_queue_is_declared_again_and_its_consumer_goes_on(
    rabbit_node: RabbitNode, vhost: str, bus: RabbitBus
) -> None:
    async with bus.consume(WORK, prefetch=5) as deliveries:
        waiting = asyncio.ensure_future(anext(deliveries))
        rabbit_node.evaluate(
            f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"work">>)),'
            '{ok, 0} = rabbit_amqqueue:delete(Q, false, false, <<"test">>).'
        )
        await asyncio.sleep(0.1)
        sent = message()
        await publish_until_confirmed(bus, [sent])
        async with asyncio.timeout(ARRIVAL_SECONDS):
            delivery = await waiting
        await delivery.ack()
    assert delivery.message.id == sent.id


async def test_a_message_that_loses_its_consumer_each_time_is_set_aside_by_the_broker(
    rabbit_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(declarations, "DELIVERY_LIMIT", 2)
    async with RabbitBus(rabbit_url, TOPOLOGY, client_name="test") as bus:
        sent = Message(new_id(), HAPPENED, b"{}", headers={"traceparent": "00-aa-bb-01"})
        await bus.publish([sent])
        async with bus.consume(WORK, prefetch=1) as deliveries:
            await (await receive(deliveries)).retry(DELAY_SECONDS, "an earlier reason")
        for _ in range(3):
            async with bus.consume(WORK, prefetch=1) as deliveries:
                assert (await receive(deliveries)).message.id == sent.id
        async with asyncio.timeout(ARRIVAL_SECONDS):
            while not (letters := await bus.peek(WORK, 10)):
                await asyncio.sleep(0.02)
        (letter,) = letters
        assert letter.message == sent
        assert "delivery_limit" in letter.reason
        assert letter.attempts == 2
        assert letter.died_at is not None
        assert await bus.replay(WORK) == 1
        async with bus.consume(WORK, prefetch=1) as deliveries:
            again = await receive(deliveries)
            await again.ack()
        assert again.message == sent
        assert again.attempt == 1


async def test_messages_published_by_hand_are_delivered_for_what_they_are(
    rabbit_node: RabbitNode, vhost: str, bus: RabbitBus
) -> None:
    put(rabbit_node, vhost, exchange=TOPOLOGY.exchange, routing_key=HAPPENED)
    async with bus.consume(WORK, prefetch=1) as deliveries:
        delivery = await receive(deliveries)
        assert delivery.message.body == b"by hand"
        assert delivery.message.routing_key == HAPPENED
        assert delivery.attempt == 1
        await delivery.dead_letter("nobody knows what this is")
    (letter,) = await bus.peek(WORK, 10)
    assert letter.message.body == b"by hand"


async def test_dead_letters_put_there_by_hand_can_be_seen_and_replayed(
    rabbit_node: RabbitNode, vhost: str, bus: RabbitBus
) -> None:
    for _ in range(3):
        put(rabbit_node, vhost, exchange="", routing_key=WORK.dead_letters)
    assert {letter.reason for letter in await bus.peek(WORK, 10)} == {"no reason was kept with it"}
    assert await bus.replay(WORK) == 3
    async with bus.consume(WORK, prefetch=1) as deliveries:
        for _ in range(3):
            await (await receive(deliveries)).ack()


def put(node: RabbitNode, vhost: str, *, exchange: str, routing_key: str) -> None:
    node.evaluate(
        f'X = rabbit_misc:r(<<"{vhost}">>, exchange, <<"{exchange}">>),'
        f'rabbit_basic:publish(X, <<"{routing_key}">>, [], <<"by hand">>).'
    )
