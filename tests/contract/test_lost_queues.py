"""A queue that is lost with what was in it is told to whoever published, on both sizes of the bus."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from services.api.settings import MIGRATIONS
from shared import outbox
from shared.bus import EventBus, Message, PublishFailed, bus_for
from shared.database import Database
from shared.events import LeadCreated
from shared.ids import new_id
from shared.relay import Relay
from shared.topology import Queue, Topology
from tests.harness.events import event

HAPPENED = "thing.happened"
WORK = Queue("work", (HAPPENED, LeadCreated.TYPE), (0.2,))
TOPOLOGY = Topology(queues=(WORK,))

Lose = Callable[[], None]


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def url_and_loss(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Lose]:
    if request.param == "rabbitmq":
        url = str(request.getfixturevalue("rabbit_url"))
        node = request.getfixturevalue("rabbit_node")
        return url, lambda: node.delete_queue(url.rsplit("/", 1)[1], WORK.name)
    return f"sqlite:///{tmp_path / 'queue.db'}", lambda: [file.unlink() for file in tmp_path.iterdir()]


@pytest.fixture
async def bus(url_and_loss: tuple[str, Lose]) -> AsyncIterator[EventBus]:
    async with bus_for(url_and_loss[0], TOPOLOGY, client_name="test") as bus:
        yield bus


@pytest.fixture
def lose_queue(url_and_loss: tuple[str, Lose]) -> Lose:
    return url_and_loss[1]


async def answer(bus: EventBus) -> bool:
    async with bus.renewals(WORK) as renewed:
        return renewed


async def publish_until_kept(bus: EventBus) -> Message:
    message = Message(new_id(), HAPPENED, b"{}")
    while True:
        try:
            await bus.publish([message])
        except PublishFailed:
            await bus.open()
        else:
            return message


async def test_a_lost_queue_is_told_once(bus: EventBus, lose_queue: Lose) -> None:
    await answer(bus)  # the first time, there was none before
    assert not await answer(bus)
    await publish_until_kept(bus)
    lose_queue()
    await publish_until_kept(bus)
    assert (await bus.stats(WORK)).ready == 1
    assert await answer(bus)
    assert not await answer(bus)


async def test_it_is_told_again_until_somebody_has_seen_to_it(bus: EventBus) -> None:
    async def fail_to_see_to_it() -> None:
        async with bus.renewals(WORK) as renewed:
            raise ZeroDivisionError if renewed else AssertionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            await fail_to_see_to_it()
    assert await answer(bus)


async def test_starting_again_loses_nothing(bus: EventBus, url_and_loss: tuple[str, Lose]) -> None:
    await answer(bus)
    await publish_until_kept(bus)
    async with bus_for(url_and_loss[0], TOPOLOGY, client_name="another") as another:
        assert not await answer(another)
    assert not await answer(bus)


async def test_other_retry_delays_are_no_loss(bus: EventBus, url_and_loss: tuple[str, Lose]) -> None:
    await answer(bus)
    await publish_until_kept(bus)
    work = Queue(WORK.name, WORK.routing_keys, (0.2, 0.3, 0.4))
    async with bus_for(url_and_loss[0], Topology(queues=(work,)), client_name="later") as later:
        assert not await answer(later)
        assert (await later.stats(work)).ready == 1
    assert not await answer(bus)


@asynccontextmanager
async def outbox_of(path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite:///{path}")
    await database.migrate(MIGRATIONS)
    try:
        yield database
    finally:
        await database.close()


async def test_what_a_lost_queue_confirmed_to_another_api_is_published_again(
    url_and_loss: tuple[str, Lose],
    bus: EventBus,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two relays at one outbox. The first one's confirm is from before the loss, and it marks only after the second one
    has had all published again."""
    await answer(bus)
    url, lose = url_and_loss
    file = tmp_path_factory.mktemp("api") / "leads.db"
    confirmed, lost, publish = asyncio.Event(), asyncio.Event(), bus.publish

    async def publish_and_stand_still(messages: Sequence[Message]) -> None:
        await publish(messages)
        confirmed.set()
        await lost.wait()

    monkeypatch.setattr(bus, "publish", publish_and_stand_still)
    async with outbox_of(file) as first, outbox_of(file) as second:
        await first.write(partial(outbox.add, events=[event()]))
        sending = asyncio.create_task(Relay(first, bus, [WORK]).drain_once())
        await confirmed.wait()
        lose()
        async with bus_for(url, TOPOLOGY, client_name="another api") as others:
            relay = Relay(second, others, [WORK])
            await relay.make_good()
            lost.set()
            await sending
            await relay.drain_once()
            assert (await others.stats(WORK)).ready == 1
