"""A blob without a lead is removed after the grace, and only then; a blob with a lead never is."""

import asyncio
import time

import aiohttp
import pytest
import pytest_asyncio

from shared.ids import new_id
from shared.tokens import SERVICE, Tokens
from tests.harness import kept
from tests.harness.client import Client
from tests.harness.deployment import Deployment
from tests.harness.files import pdf
from tests.harness.sizes import House, embedded

pytestmark = pytest.mark.asyncio(loop_scope="module")

GRACE_SECONDS = 2.0
INTERVAL_SECONDS = 0.3
PATIENCE_SECONDS = 30.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory):
    settings = {
        "LEADS_ORPHAN_GRACE_SECONDS": str(GRACE_SECONDS),
        "LEADS_SWEEP_INTERVAL_SECONDS": str(INTERVAL_SECONDS),
    }
    async with embedded(tmp_path_factory.mktemp("house"), settings) as house:
        async with Client(house.deployment.api_url) as client:  # a house with orphans and no lead is never swept
            assert (await client.post_lead("stays@example.com", pdf(3000))).status == 201
        yield house


async def store_blob(deployment: Deployment, body: bytes) -> str:
    """As an api that dies before its commit."""
    token = Tokens(deployment.environment["LEADS_SERVICE_SECRET"], SERVICE).issue("api", 60)
    blob_id = new_id()
    url = f"http://127.0.0.1:{deployment.ports['storage']}/blobs/{blob_id}"
    async with (
        aiohttp.ClientSession() as session,
        session.put(url, data=body, headers={"Authorization": f"Bearer {token}"}) as response,
    ):
        assert response.status == 201
    return blob_id


async def gone_after(deployment: Deployment, blob_id: str) -> float:
    """Seconds until the blob is gone."""
    began_at = time.monotonic()
    while blob_id in kept.blobs(deployment):
        assert time.monotonic() - began_at < PATIENCE_SECONDS, deployment.log("api")[-10:]
        await asyncio.sleep(0.05)
    return time.monotonic() - began_at


@pytest.mark.long
async def test_an_orphan_is_swept_after_its_grace_and_a_leads_blob_is_not(house: House):
    (of_a_lead,) = kept.blobs(house.deployment)
    seconds = [await gone_after(house.deployment, await store_blob(house.deployment, pdf(3000)))]
    # A later round begins where the last one ended: it must find what came since.
    seconds.append(await gone_after(house.deployment, await store_blob(house.deployment, pdf(3000))))
    assert all(one > GRACE_SECONDS - 0.1 for one in seconds)
    await asyncio.sleep(2 * INTERVAL_SECONDS)
    assert kept.blobs(house.deployment) == {of_a_lead}
    swept = [line for line in house.deployment.log("api") if line["event"] == "orphan blob swept"]
    assert len(swept) == 2


@pytest.mark.long
async def test_what_an_api_left_that_was_killed_between_blob_and_commit_is_swept_by_the_next(house: House):
    before = kept.blobs(house.deployment)
    async with Client(house.deployment.api_url) as client:
        with kept.write_lock(house.deployment.data / "leads.db"):
            posting = asyncio.create_task(client.post_lead("cut-short@example.com", pdf(3000)))
            while not (new := kept.blobs(house.deployment) - before):
                await asyncio.sleep(0.01)
            house.deployment.kill("api")
            with pytest.raises(aiohttp.ClientError):
                await posting
        await house.deployment.restart("api")
        await gone_after(house.deployment, *new)
        assert kept.lead_rows(house.deployment, "cut-short@example.com") == 0
        assert (await client.post_lead("cut-short@example.com", pdf(3000))).status == 201


@pytest.mark.long
async def test_a_sweep_goes_on_after_the_storage_was_away(house: House):
    house.deployment.kill("storage")
    await asyncio.sleep(2 * INTERVAL_SECONDS)
    await house.deployment.restart("storage")
    await gone_after(house.deployment, await store_blob(house.deployment, pdf(3000)))
    assert [line for line in house.deployment.log("api") if line["event"] == "sweep put off"]
