"""The bus on a virtual host of the test's own."""

import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from shared.bus.rabbitmq import RabbitBus
from tests.harness.work_queue import TOPOLOGY


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
