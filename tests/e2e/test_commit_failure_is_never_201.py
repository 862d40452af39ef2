"""A commit that cannot happen is a 503 in time, never a 201, and leaves nothing behind."""

import asyncio
import time

import pytest
import pytest_asyncio

from tests.harness import kept
from tests.harness.client import Client
from tests.harness.deployment import ADMIN, PASSWORD
from tests.harness.files import pdf
from tests.harness.inbox import wait_for
from tests.harness.sizes import House, embedded

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANSWER_SECONDS = 5.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory):
    async with embedded(tmp_path_factory.mktemp("house")) as house:
        yield house


@pytest.mark.long
async def test_while_another_process_holds_the_database_nothing_is_accepted_and_nothing_kept(house: House):
    look = kept.traces(house.deployment, house.inbox)
    async with Client(house.deployment.api_url) as client:
        lead = (await client.post_lead("before@example.com", pdf(3000))).json
        await wait_for(house.inbox, 2, lead_id=lead["id"])
        await client.login(ADMIN, PASSWORD)
        before = look()
        emails = [f"locked{number}@example.com" for number in range(12)]

        async def post_later(number: int) -> tuple[int, str, float]:
            await asyncio.sleep(number * 0.4)
            began_at = time.monotonic()
            answer = await client.post_lead(emails[number], pdf(3000))
            return answer.status, answer.headers.get("Retry-After", ""), time.monotonic() - began_at

        with kept.write_lock(house.deployment.data / "leads.db"):
            posts = asyncio.gather(*(post_later(number) for number in range(len(emails))))
            # The relay and the staff want the same lock: they must not make the intake wait longer.
            moves = [client.call("PATCH", f"/leads/{lead['id']}", json={"state": "REACHED_OUT"}) for _ in range(3)]
            moved = await asyncio.gather(*moves)
            assert (await client.call("GET", "/leads")).status == 200, "readers see what was there"
            answers = await posts
        assert {status for status, _, _ in answers} == {503}
        assert {retry_after for _, retry_after, _ in answers} == {"5"}
        assert max(seconds for _, _, seconds in answers) < ANSWER_SECONDS
        assert {answer.status for answer in moved} == {503}

        assert look() == before
        assert kept.unfinished(house.deployment) == set()
        assert (await client.call("GET", f"/leads/{lead['id']}")).json["state"] == "PENDING"
        again = await asyncio.gather(*(client.post_lead(email, pdf(3000)) for email in emails))
        assert {answer.status for answer in again} == {201}
    await wait_for(house.inbox, 2 + 2 * len(emails))
    leads, events, blobs, mails = look()
    assert (leads, events, blobs, mails) == (13, 13, 13, 26)


async def test_a_lock_that_is_let_go_in_time_costs_patience_only(house: House):
    async with Client(house.deployment.api_url) as client:
        with kept.write_lock(house.deployment.data / "leads.db"):
            posts = [asyncio.create_task(client.post_lead(f"patient{n}@example.com", pdf(3000))) for n in range(4)]
            await asyncio.sleep(0.7)
            assert not any(post.done() for post in posts)
        assert {answer.status for answer in await asyncio.gather(*posts)} == {201}
