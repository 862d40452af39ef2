"""The two sizes of the bus, each with a topology of the test's own."""

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.bus import EventBus, bus_for
from shared.ids import new_id
from shared.topology import Queue, Topology
from tests.harness.bus_steps import ENDED, HAPPENED, LONG_SECONDS, SHORT_SECONDS, BusFactory


@pytest.fixture
def topology() -> Topology:
    unique = new_id()[-12:]
    return Topology(
        exchange=f"test-{unique}",
        queues=(
            Queue(f"work-{unique}", (HAPPENED,), (SHORT_SECONDS, LONG_SECONDS)),
            Queue(f"audit-{unique}", (HAPPENED, ENDED), (SHORT_SECONDS,)),
        ),
    )


@pytest.fixture
def work(topology: Topology) -> Queue:
    return topology.queues[0]


@pytest.fixture(params=["embedded", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def bus_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "embedded":
        return f"sqlite:///{tmp_path / 'queue.db'}"
    return str(request.getfixturevalue("rabbit_url"))


@pytest.fixture
def bus_factory(bus_url: str, topology: Topology) -> BusFactory:
    return lambda: bus_for(bus_url, topology, client_name="test")


@pytest.fixture
async def bus(bus_factory: BusFactory) -> AsyncIterator[EventBus]:
    async with bus_factory() as bus:
        yield bus


@pytest.fixture(autouse=True)
def no_task_is_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    gc.collect()
    complaints = [record.getMessage() for record in caplog.get_records("call") if record.name == "asyncio"]
    assert complaints == []
