"""A dead broker costs the person who sends a lead nothing: events wait in the outbox and flow when it is back."""

import asyncio
import time

import pytest
import pytest_asyncio

from shared.health import CACHE_SECONDS
from tests.harness import kept
from tests.harness.client import Client
from tests.harness.commands import leads
from tests.harness.files import pdf
from tests.harness.inbox import wait_for
from tests.harness.sizes import House, at_scale

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.rabbitmq]

POSTS = 60
AT_ONCE = 6
FLOW_SECONDS = 10.0
"""Both sides try again every two seconds at least; the rest is for the mails of the whole backlog."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory, rabbit_node):
    async with at_scale(tmp_path_factory.mktemp("house"), rabbit_node) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def node(house: House, rabbit_node):
    yield rabbit_node
    await asyncio.to_thread(rabbit_node.start)


async def post_many(house: House, name: str, count: int = POSTS) -> tuple[set[str], float]:
    """Ids of the leads, all accepted, and the 95th percentile of how long an answer took."""
    seconds: list[float] = []
    ids: set[str] = set()
    places = asyncio.Semaphore(AT_ONCE)

    async def post(client: Client, number: int) -> None:
        async with places:
            began_at = time.monotonic()
            answer = await client.post_lead(f"{name}{number}@example.com", pdf(20_000, seed=number))
            seconds.append(time.monotonic() - began_at)
        assert answer.status == 201, answer.body
        ids.add(answer.json["id"])

    async with Client(house.deployment.api_url) as client:
        await asyncio.gather(*(post(client, number) for number in range(count)))
    return ids, sorted(seconds)[int(0.95 * count)]


def unpublished(house: House) -> int:
    query = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
    return int(kept.rows(house.deployment.leads_db, query)[0][0])


async def test_without_its_broker_the_api_accepts_as_fast_as_ever_and_the_mails_follow_when_it_is_back(house, node):
    first, usual_seconds = await post_many(house, "before")
    await wait_for(house.inbox, 2 * POSTS)

    node.crash()
    second, seconds = await post_many(house, "during")
    assert seconds < max(2 * usual_seconds, usual_seconds + 0.1)
    assert unpublished(house) == POSTS
    await asyncio.sleep(CACHE_SECONDS)
    async with Client(house.deployment.api_url) as client:
        ready = await client.call("GET", "/readyz")
    assert ready.status == 200, "it can do without"
    assert "events wait in the outbox" in ready.json["checks"]["broker"]

    await asyncio.to_thread(node.start)
    back_at = time.monotonic()
    mails = await wait_for(house.inbox, 4 * POSTS, seconds=FLOW_SECONDS)
    print(f"all {POSTS} events and {2 * POSTS} mails followed within {time.monotonic() - back_at:.1f} s")
    assert {mail.lead_id for mail in mails} == first | second
    assert set(house.sendgrid.accepted_by_email_id.values()) == {1}
    assert unpublished(house) == 0


@pytest.mark.long
async def test_the_queues_command_tells_what_waits_and_what_to_mend(house, node):
    shown = await leads(house.deployment, "queues")
    assert (shown.status, shown.errors) == (0, "")
    assert shown.output.splitlines()[1].split() == ["notifier", "0", "?", "1", "0", "0"]
    assert "outbox: 0 waiting" in shown.output

    node.crash()
    shown = await leads(house.deployment, "queues")
    assert shown.status == 1
    assert shown.output.startswith("outbox: 0 waiting")
    assert shown.errors.startswith("leads: RabbitMQ cannot be reached at LEADS_BROKER_URL (amqp://leads:***@127.0.0.1")
    assert len(shown.errors.splitlines()) == 1


@pytest.mark.long
async def test_rooms_that_start_while_the_broker_is_away_come_up_and_lose_nothing(house, node):
    node.crash()
    before, _ = await post_many(house, "left-by-the-first", 10)
    for room in ("api", "notifier"):
        house.deployment.kill(room)
        await house.deployment.restart(room)
    after, _ = await post_many(house, "taken-by-the-second", 10)
    await asyncio.to_thread(node.start)
    seen = 0
    deadline = time.monotonic() + FLOW_SECONDS + 10
    while seen < 2 * len(before | after):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
        seen = sum(mail.lead_id in before | after for mail in house.inbox())
    assert unpublished(house) == 0
    assert set(house.sendgrid.accepted_by_email_id.values()) == {1}


@pytest.mark.long
async def test_a_broker_that_dies_again_and_again_under_load_loses_no_event(house, node):
    posting = asyncio.create_task(post_many(house, "storm", 150))
    for _ in range(2):
        await asyncio.sleep(0.3)
        node.crash()
        await asyncio.to_thread(node.start)
    ids, _ = await posting
    deadline = time.monotonic() + 2 * FLOW_SECONDS
    while not {(lead_id, kind) for lead_id in ids for kind in ("prospect", "staff")} <= {
        (mail.lead_id, mail.kind) for mail in house.inbox()
    }:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert set(house.sendgrid.accepted_by_email_id.values()) == {1}, "what came twice was sent once"
