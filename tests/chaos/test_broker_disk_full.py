"""RabbitMQ's own disk is full under load, not only said to be: no lead is refused, and no event is lost.

Its node has its data on a disk so small that it can be filled. Whether it goes on by itself once there is room again,
or has to be started anew, is RabbitMQ's to decide: it is told, and done where it must be.
"""

import asyncio

import pytest
import pytest_asyncio

from tests.chaos.broker import PATIENCE_SECONDS, Broker
from tests.chaos.rig import IS_LONG
from tests.harness.missing import cannot_run
from tests.harness.rabbitmq import MISSING, RabbitNode, find_rabbitmq
from tests.harness.sizes import AT_SCALE
from tests.harness.tiny_disk import fill_up, filled, tiny_disks

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.rabbitmq, pytest.mark.long, pytest.mark.timeout(0)]

DISK_MIB = 96
FULL_SECONDS = 30.0 if IS_LONG else 6.0
UNCONFIRMED_SECONDS = 2.0
BY_ITSELF_SECONDS = 15.0
"""Who has not gone on by then is started anew. The rooms find a broker that is back within a second."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory, verdicts):
    if find_rabbitmq() is None:
        cannot_run(MISSING)
    folder = tmp_path_factory.mktemp("node")
    with tiny_disks([RabbitNode.data_of(folder)], size_mib=DISK_MIB) as trouble:
        if trouble:
            cannot_run(trouble)
        node = RabbitNode(folder)
        try:
            async with Broker.of(node, tmp_path_factory.mktemp(AT_SCALE), verdicts) as broker:
                yield broker
        finally:
            node.stop()


@pytest.mark.parametrize("alarm", ["with its", "without an"])
@pytest.mark.parametrize("left_bytes", [0, 300_000])
async def test_a_broker_whose_disk_is_full_loses_no_event(broker: Broker, left_bytes: int, alarm: str):
    """At once, or in the middle of what it writes; known to RabbitMQ, or found out when a write fails."""
    came_back: list[str] = []
    logged = len(broker.node.log())
    if alarm == "without an":
        broker.node.watch_no_disk()

    async def fill() -> None:
        with filled(broker.node.data, but_bytes=left_bytes):
            await nothing_is_confirmed(broker)
            await asyncio.sleep(FULL_SECONDS)
        came_back.append(await come_back(broker))

    scenario = f"disk of RabbitMQ full but for {left_bytes:,} bytes, {alarm} alarm"
    storm = await broker.suffer(scenario, fill, times=1)
    broker.rig.figure(f"{scenario}: leads refused, events lost", "0, 0", f"0 of {storm.answered:,}, 0; {came_back[0]}")
    if alarm == "without an":
        assert "enospc" in broker.node.log()[logged:], "no write has failed"


async def nothing_is_confirmed(broker: Broker) -> None:
    """Returns when it has been so for a while, though events wait. Fails when it does not come to that."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        published = -1
        while broker.published() > published or not broker.unpublished():
            published = broker.published()
            await asyncio.sleep(UNCONFIRMED_SECONDS)
            fill_up(broker.node.data)


async def come_back(broker: Broker) -> str:
    """How RabbitMQ did: it has when a lead that came since then has its e-mail. A queue may have confirmed a few before
    it refused all that followed.
    """
    newest = broker.newest_lead()
    try:
        async with asyncio.timeout(BY_ITSELF_SECONDS):
            took_seconds = await broker.seconds_until(lambda: broker.is_sent_after(newest))
    except TimeoutError:
        state = "ran, and kept nothing" if broker.node.running else "had ended"
        broker.node.kill()
        await broker.restart()
        return f"RabbitMQ {state}, and was started anew"
    return f"RabbitMQ went on by itself after {took_seconds:.1f} s"
