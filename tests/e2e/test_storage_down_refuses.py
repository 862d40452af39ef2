"""Without its storage the api refuses at once, keeps nothing, and takes the same lead as soon as it can."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import pytest_asyncio

from shared.health import CACHE_SECONDS
from tests.harness import kept
from tests.harness.client import Answer, Client
from tests.harness.deployment import ADMIN, PASSWORD, Deployment
from tests.harness.files import pdf
from tests.harness.inbox import wait_for
from tests.harness.sizes import House, embedded

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANSWER_SECONDS = 5.0
GRACE_SECONDS = 1.0
SLACK_SECONDS = 0.7
"""For a machine that is busy with other things."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory):
    quick_sweep = {"LEADS_ORPHAN_GRACE_SECONDS": str(GRACE_SECONDS), "LEADS_SWEEP_INTERVAL_SECONDS": "0.3"}
    async with embedded(tmp_path_factory.mktemp("house"), quick_sweep) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def client(house: House):
    async with Client(house.deployment.api_url) as client:
        yield client


@contextmanager
def hanging(deployment: Deployment, room: str) -> Iterator[None]:
    """The room's process is there, its port takes connections, and nothing happens."""
    process = deployment.processes[room]
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def gone(deployment: Deployment, room: str) -> AsyncIterator[None]:
    """The room's process is killed, and started again afterwards."""
    deployment.kill(room)
    try:
        yield
    finally:
        await deployment.restart(room)


async def timed(client: Client, email: str, size_bytes: int) -> tuple[Answer, float]:
    began_at = time.monotonic()
    answer = await client.post_lead(email, pdf(size_bytes))
    return answer, time.monotonic() - began_at


def is_refused_in_time(answer: Answer, seconds: float) -> None:
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json["type"] == "urn:leads:problem:unavailable"
    assert seconds < ANSWER_SECONDS + SLACK_SECONDS


async def test_a_storage_that_is_gone_is_a_503_at_once_and_nothing_is_kept(house: House, client: Client):
    look = kept.traces(house.deployment, house.inbox)
    before = look()
    async with gone(house.deployment, "storage"):
        for answer, seconds in await asyncio.gather(*(timed(client, f"gone{n}@example.com", 65_536) for n in range(8))):
            is_refused_in_time(answer, seconds)
        await asyncio.sleep(CACHE_SECONDS)
        ready = await client.call("GET", "/readyz")
        assert (ready.status, ready.json["checks"]["storage"] == "ok") == (503, False)
        assert look() == before
    answer = await client.post_lead("gone0@example.com", pdf(65_536))
    assert answer.status == 201
    await wait_for(house.inbox, 2, lead_id=answer.json["id"])
    assert [after - earlier for earlier, after in zip(before, look(), strict=True)] == [1, 1, 1, 2]


@pytest.mark.long
@pytest.mark.parametrize("size_bytes", [3_000, 1_000_000])
async def test_a_storage_that_hangs_is_a_503_within_five_seconds_and_leaves_nothing_behind(
    house: House, client: Client, size_bytes: int
):
    first = await client.post_lead(f"first-{size_bytes}@example.com", pdf(3000))  # without any lead nothing is swept
    await wait_for(house.inbox, 2, lead_id=first.json["id"])
    look = kept.traces(house.deployment, house.inbox)
    before = look()
    with hanging(house.deployment, "storage"):
        tries = (timed(client, f"hangs{n}-{size_bytes}@example.com", size_bytes) for n in range(4))
        for answer, seconds in await asyncio.gather(*tries):
            is_refused_in_time(answer, seconds)
        assert (await client.call("GET", "/healthz")).status == 200
    # What it had received before it hung it may store when it wakes up; then the sweep takes it.
    await asyncio.sleep(GRACE_SECONDS)
    deadline = time.monotonic() + 10
    while look() != before or kept.unfinished(house.deployment):
        assert time.monotonic() < deadline, (before, look(), kept.unfinished(house.deployment))
        await asyncio.sleep(0.1)
    answer = await client.post_lead(f"hangs0-{size_bytes}@example.com", pdf(size_bytes))
    assert answer.status == 201
    await wait_for(house.inbox, 2, lead_id=answer.json["id"])


async def test_staff_are_told_the_same_when_they_ask_for_a_resume(house: House, client: Client):
    lead = (await client.post_lead("read-me@example.com", pdf(3000))).json
    await client.login(ADMIN, PASSWORD)
    async with gone(house.deployment, "storage"):
        answer = await client.call("GET", f"/leads/{lead['id']}/resume")
        assert (answer.status, "Retry-After" in answer.headers) == (503, True)
        assert (await client.call("GET", f"/leads/{lead['id']}")).status == 200
    assert (await client.call("GET", f"/leads/{lead['id']}/resume")).body == pdf(3000)
