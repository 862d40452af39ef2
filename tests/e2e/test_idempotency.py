"""One Idempotency-Key is one lead, however often and however much at once the request comes, also over a restart."""

import asyncio

import pytest
import pytest_asyncio

from tests.harness import kept
from tests.harness.client import Client
from tests.harness.files import pdf
from tests.harness.inbox import wait_for
from tests.harness.sizes import EMBEDDED, ON_MARIADB, House, house_of, sizes

pytestmark = pytest.mark.asyncio(loop_scope="module")

RESUME = pdf(20_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=sizes(EMBEDDED, ON_MARIADB))
async def house(request):
    async with house_of(request) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def client(house: House):
    async with Client(house.deployment.api_url) as client:
        yield client


async def test_twenty_at_once_with_one_key_are_one_lead_and_stay_so_after_a_restart(house: House, client: Client):
    look = kept.traces(house.deployment, house.inbox)
    before = look()
    key = {"Idempotency-Key": "one-key-for-twenty"}
    answers = await asyncio.gather(*(client.post_lead("twenty@example.com", RESUME, headers=key) for _ in range(20)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    lead = answers[0].json

    await house.deployment.stop("api")
    await house.deployment.restart("api")
    again = await client.post_lead("twenty@example.com", RESUME, headers=key)
    assert (again.status, again.body) == (201, answers[0].body)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == f"/leads/{lead['id']}"

    await wait_for(house.inbox, 2, lead_id=lead["id"])
    await asyncio.sleep(0.3)
    assert [after - earlier for earlier, after in zip(before, look(), strict=True)] == [1, 1, 1, 2]
    assert kept.unfinished(house.deployment) == set()


@pytest.mark.parametrize(
    "other",
    [
        {"email": "other@example.com"},
        {"first_name": "Anna"},
        {"resume": pdf(20_000, seed=1)},
        {"filename": "other.pdf"},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_the_same_key_with_another_request_is_refused_and_leaves_nothing(house: House, client: Client, other):
    field = next(iter(other))
    key = {"Idempotency-Key": f"key-of-{field}"}
    first = {"email": f"{field.replace('_', '-')}@example.com", "resume": RESUME, "headers": key}
    assert (await client.post_lead(**first)).status == 201
    blobs = kept.blobs(house.deployment)
    answer = await client.post_lead(**{**first, **other})
    assert (answer.status, answer.json["type"]) == (422, "urn:leads:problem:idempotency-key-reused")
    assert kept.blobs(house.deployment) == blobs
    assert kept.lead_rows(house.deployment, "other@example.com") == 0


async def test_a_refused_request_does_not_use_its_key_up(client: Client):
    key = {"Idempotency-Key": "first-wrong-then-right"}
    assert (await client.post_lead("second-try@example.com", b"no resume", headers=key)).status == 415
    assert (await client.post_lead("second-try@example.com", RESUME, headers=key)).status == 201


@pytest.mark.parametrize("key", ["", " ", "a" * 256, "with space", "ünïcode"])
async def test_a_key_that_is_none_is_said(client: Client, key):
    answer = await client.post_lead("no-key@example.com", RESUME, headers={"Idempotency-Key": key})
    assert answer.status == 422
    assert answer.json["errors"][0]["field"].lower() == "idempotency-key"
