"""`leads audit` while leads come in: what is on its way is no discrepancy, and what is lost on the bus is one."""

import asyncio
import json
from contextlib import asynccontextmanager

import aio_pika
import pytest
import pytest_asyncio

from shared.bus import bus_for
from shared.ids import new_id
from shared.topology import NOTIFIER_QUEUE, leads_topology
from tests.harness import kept
from tests.harness.client import Client
from tests.harness.commands import Done, leads
from tests.harness.embedded import execute
from tests.harness.files import pdf
from tests.harness.sizes import AT_SCALE, EMBEDDED, House, at_scale, embedded

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long]

CLIENTS = 6
AUDITS = 2


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[EMBEDDED, pytest.param(AT_SCALE, marks=pytest.mark.rabbitmq)]
)
async def house(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == EMBEDDED:
        async with embedded(folder) as house:
            yield house
    else:
        async with at_scale(folder, request.getfixturevalue("rabbit_node")) as house:
            yield house


def summary(done: Done) -> dict:
    return json.loads(done.output.splitlines()[-1])["summary"]


async def post_for_ever(house: House) -> None:
    async with Client(house.deployment.api_url) as client:
        while True:
            assert (await client.post_lead(f"{new_id()}@example.com", pdf(3000))).status == 201


@asynccontextmanager
async def load(house: House):
    clients = [asyncio.create_task(post_for_ever(house)) for _ in range(CLIENTS)]
    try:
        yield
    finally:
        assert not [client for client in clients if client.done()]
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def test_an_audit_under_load_finds_nothing(house: House):
    async with load(house):
        await asyncio.sleep(1)
        audits = [await leads(house.deployment, "audit", "--json") for _ in range(AUDITS)]
    assert [(done.status, done.errors) for done in audits] == [(0, "")] * AUDITS
    checked = [summary(done)["leads"] for done in audits]
    assert 0 < checked[0] < checked[1]


async def test_what_waits_while_no_notifier_runs_adds_up_until_a_message_is_gone(house: House):
    await house.deployment.stop("notifier")
    async with load(house):
        await asyncio.sleep(0.5)
    await nothing_in_outbox(house)
    waiting = await leads(house.deployment, "audit", "--json")
    assert waiting.status == 0
    assert summary(waiting)["waiting_on_bus"] > 1

    await bury_one_message(house)
    assert (await leads(house.deployment, "audit", "--json")).status == 0, "a dead letter has failed in sight"
    await take_one_message(house)
    short = await leads(house.deployment, "audit")
    assert short.status == 1
    assert "its prospect e-mail is missing, its staff e-mail is missing, and" in short.output


async def nothing_in_outbox(house: House) -> None:
    unpublished = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
    async with asyncio.timeout(15):
        while kept.rows(house.deployment.leads_db, unpublished) != [(0,)]:
            await asyncio.sleep(0.05)


async def bury_one_message(house: House) -> None:
    """As a notifier does with what can never be sent."""
    url = house.deployment.environment.get("LEADS_BROKER_URL", f"sqlite:///{house.deployment.data / 'queue.db'}")
    topology = leads_topology()
    async with bus_for(url, topology, client_name="test") as bus, bus.consume(topology.queues[0], 1) as deliveries:
        await (await anext(deliveries)).dead_letter("refused")


async def take_one_message(house: House) -> None:
    """As somebody does who consumes the wrong queue."""
    url = house.deployment.environment.get("LEADS_BROKER_URL")
    if url is None:
        execute(
            house.deployment.data / "queue.db",
            "DELETE FROM message WHERE position = (SELECT min(position) FROM message)",
        )
        return
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.get_queue(NOTIFIER_QUEUE, ensure=False)
        await queue.get(no_ack=True)
