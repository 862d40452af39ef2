"""What the RabbitMQ size of the bus does when the broker dies, hangs, refuses, or gives a message up by itself."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from shared.bus import BusUnavailable, Delivery, EventBus, Message, PublishFailed
from shared.bus.rabbitmq import RabbitBus, password_free, publisher
from shared.bus.rabbitmq import topology as declarations
from shared.bus.rabbitmq.nodes import nodes_of
from shared.ids import new_id
from shared.topology import Queue, Topology
from tests.harness.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq

ARRIVAL_SECONDS = 20.0
DELAY_SECONDS = 0.2
WORK = Queue("work", ("thing.happened",), (DELAY_SECONDS,))
TOPOLOGY = Topology(queues=(WORK,))


@pytest.fixture
async def bus(rabbit_url: str) -> AsyncIterator[RabbitBus]:
    async with RabbitBus(rabbit_url, TOPOLOGY, client_name="test") as bus:
        yield bus


@pytest.fixture
def vhost(rabbit_url: str) -> str:
    return rabbit_url.rsplit("/", 1)[1]


@pytest.fixture(autouse=True)
def no_task_is_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()
    complaints = {record.getMessage() for record in caplog.get_records("call") if record.name == "asyncio"}
    assert complaints <= {"socket.send() raised exception."}, "what was on its way to a broker that died is no task"


def message() -> Message:
    return Message(new_id(), "thing.happened", b"{}", headers={"traceparent": "00-aa-bb-01"})


async def receive(deliveries: AsyncIterator[Delivery]) -> Delivery:
    async with asyncio.timeout(ARRIVAL_SECONDS):
        return await anext(deliveries)


async def publish_until_confirmed(bus: EventBus, messages: list[Message]) -> int:
    """As the relay does: what is not confirmed is sent again. Returns how often that was."""
    failures = 0
    waiting = {message.id: message for message in messages}
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while waiting:
            try:
                await bus.publish(list(waiting.values()))
            except PublishFailed as error:
                failures += 1
                for event_id in error.confirmed:
                    del waiting[event_id]
                await asyncio.sleep(0.1)
            else:
                waiting.clear()
    return failures


# The broker dies


async def test_nothing_that_was_published_is_lost_when_the_broker_is_killed(
    rabbit_node: RabbitNode, bus: RabbitBus
) -> None:
    kept: set[str] = set()
    received: set[str] = set()
    done = asyncio.Event()

    async def publish() -> int:
        failures = 0
        while not done.is_set():
            batch = [message() for _ in range(100)]
            failures += await publish_until_confirmed(bus, batch)
            kept.update(message.id for message in batch)
        return failures

    async def consume() -> None:
        async with bus.consume(WORK, prefetch=50) as deliveries:
            async for delivery in deliveries:
                received.add(delivery.message.id)
                await delivery.ack()

    publishing, consuming = asyncio.create_task(publish()), asyncio.create_task(consume())
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while len(received) < 200:
            await asyncio.sleep(0.01)
    rabbit_node.kill()
    seen_before = len(received)
    await asyncio.to_thread(rabbit_node.restart)
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while len(received) < seen_before + 200:
            await asyncio.sleep(0.01)
    done.set()
    assert await publishing > 0
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while not kept <= received:
            await asyncio.sleep(0.01)
    consuming.cancel()
    await asyncio.gather(consuming, return_exceptions=True)


async def test_settling_what_the_lost_broker_had_given_is_quiet_and_it_comes_again(
    rabbit_node: RabbitNode, bus: RabbitBus
) -> None:
    sent = [message() for _ in range(3)]
    await bus.publish(sent)
    async with bus.consume(WORK, prefetch=10) as deliveries:
        stale = [await receive(deliveries) for _ in sent]
        rabbit_node.kill()
        await asyncio.to_thread(rabbit_node.restart)
        await stale[0].ack()
        await stale[1].retry(DELAY_SECONDS, "too late")
        await stale[2].dead_letter("too late")
        again = [await receive(deliveries) for _ in sent]
        for delivery in again:
            await delivery.ack()
    assert sorted(delivery.message.id for delivery in again) == sorted(message.id for message in sent)
    assert all(delivery.redelivered for delivery in again)
    assert (await bus.stats(WORK)).dead == 0


async def test_everything_survives_a_restart_of_the_broker(rabbit_node: RabbitNode, bus: RabbitBus) -> None:
    ready, retried, buried = message(), message(), message()
    await bus.publish([retried, buried, ready])
    async with bus.consume(WORK, prefetch=2) as deliveries:
        await (await receive(deliveries)).retry(DELAY_SECONDS, "later")
        await (await receive(deliveries)).dead_letter("never")
    await asyncio.to_thread(rabbit_node.restart)
    await publish_until_confirmed(bus, [])
    async with bus.consume(WORK, prefetch=2) as deliveries:
        received = [await receive(deliveries) for _ in range(2)]
        for delivery in received:
            await delivery.ack()
    assert {delivery.message.id for delivery in received} == {ready.id, retried.id}
    assert {delivery.attempt for delivery in received} == {1, 2}
    assert [letter.message.id for letter in await bus.peek(WORK, 10)] == [buried.id]


async def test_a_consumer_may_start_before_the_broker(rabbit_node: RabbitNode, bus: RabbitBus) -> None:
    sent = message()
    await bus.publish([sent])
    rabbit_node.kill()
    async with bus.consume(WORK, prefetch=1) as deliveries:
        with pytest.raises(BusUnavailable, match="LEADS_BROKER_URL"):
            await bus.stats(WORK)
        await asyncio.to_thread(rabbit_node.restart)
        delivery = await receive(deliveries)
        await delivery.ack()
    assert delivery.message.id == sent.id


# The broker hangs


async def test_a_broker_that_hangs_is_a_failed_publish_within_the_deadline(
    rabbit_node: RabbitNode, bus: RabbitBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "PUBLISH_SECONDS", 0.5)
    await bus.publish([message()])
    rabbit_node.pause()
    try:
        async with asyncio.timeout(6):
            with pytest.raises(PublishFailed, match="did not answer in time") as failure:
                await bus.publish([message()])
    finally:
        rabbit_node.resume()
    assert failure.value.confirmed == frozenset()
    monkeypatch.undo()
    await bus.publish([message()])


async def test_a_cancelled_publish_leaves_the_bus_usable(rabbit_node: RabbitNode, bus: RabbitBus) -> None:
    await bus.publish([message()])
    rabbit_node.pause()
    try:
        publishing = asyncio.create_task(bus.publish([message()]))
        await asyncio.sleep(0.2)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
    finally:
        rabbit_node.resume()
    assert publishing.cancelled()
    await bus.publish([message()])


async def publish_on_and_on(bus: RabbitBus) -> None:
    """A broker tells its connections of an alarm some moments after it was set."""
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while True:
            await bus.publish([message()])


async def test_a_broker_without_memory_takes_acknowledgements_and_keeps_failed_events_in_hand(
    rabbit_node: RabbitNode, bus: RabbitBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "PUBLISH_SECONDS", 0.5)
    await bus.publish([message(), message()])
    async with bus.consume(WORK, prefetch=2) as deliveries:
        first, second = await receive(deliveries), await receive(deliveries)
        rabbit_node.evaluate("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).")
        try:
            with pytest.raises(PublishFailed):
                await publish_on_and_on(bus)
            await first.ack()
            burying = asyncio.create_task(second.dead_letter("never"))
            await asyncio.sleep(1)
            assert not burying.done()
        finally:
            rabbit_node.evaluate("rabbit_alarm:clear_alarm({resource_limit, memory, node()}).")
        async with asyncio.timeout(ARRIVAL_SECONDS):
            await burying
    assert {letter.message.id for letter in await bus.peek(WORK, 10)} == {second.message.id}


async def test_every_connection_agrees_on_heartbeats_of_three_seconds(rabbit_node: RabbitNode, bus: RabbitBus) -> None:
    await bus.publish([message()])
    async with bus.consume(WORK, prefetch=1) as deliveries:
        await receive(deliveries)
        agreed = rabbit_node.evaluate(
            "lists:usort([T || [{timeout, T}] <- rabbit_networking:connection_info_all([timeout])]) =:= [3]."
        )
        assert agreed == "true"


# The broker says no


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


# Somebody else's hand in the broker


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
        sent = message()
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
    put(rabbit_node, vhost, exchange=TOPOLOGY.exchange, routing_key="thing.happened")
    async with bus.consume(WORK, prefetch=1) as deliveries:
        delivery = await receive(deliveries)
        assert delivery.message.body == b"by hand"
        assert delivery.message.routing_key == "thing.happened"
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


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://leads:hunter2@broker:5672/prod", "amqp://leads:***@broker:5672/prod"),
        ("amqp://broker", "amqp://broker"),
        ("amqp://leads:hunter2@broker:port/", "a URL that cannot be read"),
        ("amqp://leads:hunter2@a:5672,[::1]:5673,c/prod", "amqp://leads:***@a:5672,[::1]:5673,c/prod"),
        ("amqps://leads:hun,ter2@a,b/prod?heartbeat=5", "amqps://leads:***@a,b/prod?heartbeat=5"),
        ("amqp://leads:1/hunter2@a,b/prod", "a URL that cannot be read"),
        ("amqp://leads:hunter2@a,,b/prod", "a URL that cannot be read"),
        ("amqp://leads:hunter2@a,b:port/prod", "a URL that cannot be read"),
    ],
)
def test_urls_are_logged_without_their_password(url: str, shown: str) -> None:
    assert password_free(url) == shown


@pytest.mark.parametrize(
    ("url", "nodes"),
    [
        ("amqp://broker", ["amqp://broker"]),
        (
            "amqp://u:p@a:5672,b,[::1]:5673/v?x=1",
            ["amqp://u:p@a:5672/v?x=1", "amqp://u:p@b/v?x=1", "amqp://u:p@[::1]:5673/v?x=1"],
        ),
        ("amqps://u:p,q@a,b", ["amqps://u:p,q@a", "amqps://u:p,q@b"]),
    ],
)
def test_a_url_names_each_node_of_a_cluster(url: str, nodes: list[str]) -> None:
    assert list(nodes_of(url)) == nodes


async def test_a_node_that_is_away_is_passed_over(rabbit_url: str) -> None:
    url = rabbit_url.replace("@", "@127.0.0.1:1,127.0.0.1:2,")
    for _ in range(5):  # the order differs each time
        async with RabbitBus(url, TOPOLOGY, client_name="test") as bus:
            assert (await bus.stats(TOPOLOGY.queues[0])).dead == 0


async def test_a_cluster_of_which_no_node_answers_is_told_whole_and_without_its_password() -> None:
    bus = RabbitBus("amqp://leads:hunter2@127.0.0.1:1,127.0.0.1:2/prod", TOPOLOGY, client_name="test")
    with pytest.raises(BusUnavailable, match=r"\(amqp://leads:\*\*\*@127.0.0.1:1,127.0.0.1:2/prod\)"):
        await bus.open()
    await bus.close()


@pytest.mark.parametrize(
    "url", ["", "sqlite:///queue.db", "amqp://", "amqp://leads:hunter2@broker:port/", "amqp://leads:hunter2@a,/v"]
)
def test_a_url_that_is_none_of_rabbitmqs_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="LEADS_BROKER_URL") as failure:
        RabbitBus(url, TOPOLOGY, client_name="test")
    assert "hunter2" not in str(failure.value)
