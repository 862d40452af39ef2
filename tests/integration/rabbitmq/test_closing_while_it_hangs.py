"""A bus that is closed while RabbitMQ hangs takes one unanswered goodbye, however much is open and under way."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from shared.bus import Message
from shared.bus.rabbitmq import RabbitBus
from shared.bus.rabbitmq.closing import CLOSE_SECONDS
from shared.ids import new_id
from tests.harness.bus_steps import HAPPENED
from tests.harness.rabbitmq import RabbitNode
from tests.harness.work_queue import DELAY_SECONDS, TOPOLOGY, WORK

pytestmark = [pytest.mark.rabbitmq, pytest.mark.long]

MORE_THAN_SOCKETS_HOLD = 30_000_000
SLOW_MACHINE_SECONDS = 1.5


@pytest.fixture
async def bus(rabbit_url: str) -> RabbitBus:
    bus = RabbitBus(rabbit_url, TOPOLOGY, client_name="test")
    await bus.open()
    return bus


@pytest.fixture(autouse=True)
def no_task_is_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()
    assert not [record for record in caplog.get_records("call") if record.name == "asyncio"]


@asynccontextmanager
async def hanging(node: RabbitNode) -> AsyncIterator[None]:
    node.pause()
    try:
        yield
    finally:
        node.resume()


def message(size_bytes: int = 2) -> Message:
    return Message(new_id(), HAPPENED, b" " * size_bytes)


async def cancel(task: "asyncio.Task[object]") -> None:
    """As a room does with each of its loops, one after the other."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_everything_at_once(rabbit_node: RabbitNode, bus: RabbitBus) -> None:
    await bus.publish([message(), message()])
    async with bus.consume(WORK, prefetch=2) as deliveries:
        first, second = await anext(deliveries), await anext(deliveries)
        await first.retry(DELAY_SECONDS, "later")
        async with hanging(rabbit_node):
            under_way = [
                asyncio.create_task(bus.publish([message(100_000) for _ in range(MORE_THAN_SOCKETS_HOLD // 100_000)])),
                asyncio.create_task(second.dead_letter("never")),
                asyncio.create_task(bus.stats(WORK)),
            ]
            await asyncio.sleep(0.5)
            began_at = time.monotonic()
            for task in under_way:
                await cancel(task)
            await bus.close()
            took_seconds = time.monotonic() - began_at
    assert CLOSE_SECONDS <= took_seconds < CLOSE_SECONDS + SLOW_MACHINE_SECONDS


@pytest.mark.parametrize("verb", ["open", "publish", "consume"])
async def test_while_it_is_connecting(rabbit_node: RabbitNode, rabbit_url: str, verb: str) -> None:
    bus = RabbitBus(rabbit_url, TOPOLOGY, client_name="test")

    async def consume() -> None:
        async with bus.consume(WORK, prefetch=1):
            pass

    async with hanging(rabbit_node):
        verbs = {"open": bus.open, "publish": lambda: bus.publish([message()]), "consume": consume}
        connecting = asyncio.ensure_future(verbs[verb]())
        await asyncio.sleep(0.5)
        began_at = time.monotonic()
        await cancel(connecting)
        await bus.close()
        assert time.monotonic() - began_at < CLOSE_SECONDS + SLOW_MACHINE_SECONDS


async def test_a_bus_that_was_closed_like_that_works_again(rabbit_node: RabbitNode, bus: RabbitBus) -> None:
    async with hanging(rabbit_node):
        await bus.close()
    await bus.publish([message()])
    assert (await bus.stats(WORK)).ready == 1
    await bus.close()
