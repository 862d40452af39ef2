"""A queue that is lost with what was in it is told to whoever published, on both sizes of the bus."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from shared.bus import EventBus, Message, PublishFailed, bus_for
from shared.ids import new_id
from shared.topology import Queue, Topology

HAPPENED = "thing.happened"
WORK = Queue("work", (HAPPENED,), (0.2,))
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
