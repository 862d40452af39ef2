"""A big resume goes straight to a storage that keeps resumes in a bucket, whatever breaks on the way."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from services.storage.folder import part_expires_at
from shared.tokens import LEEWAY_SECONDS
from tests.harness import kept
from tests.harness.claims import PUBLIC_URL, SMALL, SWEEP_SECONDS, a_ticket, claim, refused, sender, sent
from tests.harness.client import Client
from tests.harness.crash_points import CrashPoint
from tests.harness.deployment import ADMIN, PASSWORD
from tests.harness.files import MIB, pdf
from tests.harness.inbox import wait_for
from tests.harness.s3 import S3Front, s3_front
from tests.harness.sizes import House, with_s3
from tests.harness.stored import stored
from tests.harness.tus import Sender

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long]

LONG = pdf(12_000_000)
"""In three parts."""


@dataclass(frozen=True)
class Bucket:
    """A deployment that offers tickets, and the front before its bucket."""

    house: House
    front: S3Front

    @property
    def waiting(self) -> Path:
        """Where uploads wait until they are whole."""
        return self.house.deployment.data / "uploads" / ".incoming"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bucket(tmp_path_factory, s3_server) -> AsyncIterator[Bucket]:
    settings = {
        "LEADS_STORAGE_PUBLIC_URL": PUBLIC_URL,
        "LEADS_RESUME_MAX_BYTES": str(32 * MIB),
        "LEADS_ORPHAN_GRACE_SECONDS": "2",
        "LEADS_SWEEP_INTERVAL_SECONDS": str(SWEEP_SECONDS),
        "LEADS_BLOB_REDIRECT": "true",
    }
    async with (
        s3_front(s3_server) as front,
        with_s3(tmp_path_factory.mktemp("bucket"), s3_server, settings, s3_port=front.port) as house,
    ):
        yield Bucket(house, front)


@pytest_asyncio.fixture(loop_scope="module")
async def client(bucket: Bucket):
    async with Client(bucket.house.deployment.api_url) as client:
        assert (await client.login(ADMIN, PASSWORD)).status == 200
        yield client


@pytest.mark.parametrize("body", [SMALL, LONG], ids=["in one call", "in parts"])
async def test_it_comes_in_pieces_is_kept_in_the_bucket_and_becomes_a_lead(bucket: Bucket, client: Client, body: bytes):
    offer = await a_ticket(client, body)
    blob_id = offer["upload_url"].rpartition("/")[2]
    email = f"{len(body)}@bucket.example.com"
    async with sender(bucket.house, offer) as upload:
        assert (await upload.ask()).offset == 0
        assert (await upload.send(body[:200_000], 0)).offset == 200_000
        assert blob_id not in kept.blobs(bucket.house.deployment)
        refused(await claim(client, email, offer["ticket"]), 409, "upload-unfinished")
        assert (await upload.send_all(body)).offset == len(body)
        assert stored(bucket.house.deployment).read(blob_id) == body
        assert (await upload.ask()).offset == len(body)
        assert (await upload.send(body[::-1], 0)).problem == "upload-conflict"
    lead = await claim(client, email, offer["ticket"])
    assert (lead.status, lead.json["resume"]["sha256"]) == (201, hashlib.sha256(body).hexdigest())
    await wait_for(bucket.house.inbox, 2, lead_id=lead.json["id"])
    assert list(bucket.waiting.iterdir()) == []
    assert kept.unfinished(bucket.house.deployment) == set()


async def test_staff_who_are_led_to_the_bucket_save_it_by_its_name(bucket: Bucket, client: Client):
    lead = await claim(client, "named@bucket.example.com", await sent(bucket.house, client, SMALL, "Résumé.pdf"))
    answer = await client.call("GET", f"{lead.headers['Location']}/resume")
    assert answer.status == 307
    async with aiohttp.ClientSession() as stranger, stranger.get(answer.headers["Location"]) as response:
        assert await response.read() == SMALL
        assert response.headers["Content-Disposition"] == "attachment; filename*=UTF-8''R%C3%A9sum%C3%A9.pdf"


async def test_a_storage_that_was_killed_goes_on_where_it_was(bucket: Bucket, client: Client):
    offer = await a_ticket(client, LONG)
    async with sender(bucket.house, offer) as upload:
        await upload.send(LONG[:5_000_000], 0)
        bucket.house.deployment.kill("storage")
        await bucket.house.deployment.restart("storage")
        assert (await upload.ask()).offset == 5_000_000
        assert (await upload.send(LONG, 5_000_000)).offset == len(LONG)
    assert (await claim(client, "killed@bucket.example.com", offer["ticket"])).status == 201


def elsewhere(bucket: Bucket, offer: Mapping[str, Any], url: str) -> Sender:
    """A sender to another storage, with the same ticket."""
    here = sender(bucket.house, offer)
    return Sender(here.url.replace(bucket.house.deployment.url("storage"), url), offer["ticket"])


async def dying_at(bucket: Bucket, step: str) -> None:
    """The storage is started so that it dies there."""
    deployment = bucket.house.deployment
    deployment.kill("storage")
    deployment.launch("storage", CrashPoint("storage", step).command)
    await deployment.ready("storage")


async def started_anew(bucket: Bucket) -> None:
    """It has died."""
    bucket.house.deployment.processes["storage"].wait()
    await bucket.house.deployment.restart("storage")


@pytest.mark.parametrize(
    ("step", "body"), [("body held", SMALL), ("object put", SMALL), ("parts put", LONG), ("copied", LONG)]
)
async def test_a_storage_that_dies_while_it_hands_an_upload_over_has_it_whole_afterwards(
    bucket: Bucket, client: Client, step: str, body: bytes
):
    offer = await a_ticket(client, body)
    await dying_at(bucket, step)
    async with sender(bucket.house, offer) as upload:
        with pytest.raises(aiohttp.ClientError):
            await upload.send(body, 0)
        await started_anew(bucket)
        assert (await upload.ask()).offset == len(body)
    assert list(bucket.waiting.iterdir()) == []
    lead = await claim(client, f"died-{step.replace(' ', '-')}@bucket.example.com", offer["ticket"])
    assert (lead.status, lead.json["resume"]["sha256"]) == (201, hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("step", ["parts put", "copied"])
async def test_a_form_whose_storage_dies_over_a_long_resume_is_refused_and_taken_the_next_time(
    bucket: Bucket, client: Client, step: str
):
    await dying_at(bucket, step)
    email = f"form-{step.replace(' ', '-')}@bucket.example.com"
    refused(await client.post_lead(email, BytesIO(LONG)), 503, "unavailable")
    await started_anew(bucket)
    lead = await client.post_lead(email, BytesIO(LONG))
    assert (lead.status, lead.json["resume"]["sha256"]) == (201, hashlib.sha256(LONG).hexdigest())


async def test_who_asks_while_it_is_handed_over_is_told_to_ask_again(bucket: Bucket, client: Client):
    """It is not there for the lead yet, whatever has come."""
    offer = await a_ticket(client, SMALL)
    async with sender(bucket.house, offer) as upload, sender(bucket.house, offer) as other:
        await upload.send(SMALL[:1000], 0)
        bucket.front.is_busy = True
        try:
            sending = asyncio.create_task(upload.send(SMALL, 1000))
            while (asked := await other.ask()).status != 409:
                assert not sending.done()
                await asyncio.sleep(0.02)
            assert int(asked.headers["Retry-After"]) > 0
        finally:
            bucket.front.is_busy = False
        assert (await sending).status in {204, 503}
        assert (await other.ask()).offset == len(SMALL)
    assert (await claim(client, "asked@bucket.example.com", offer["ticket"])).status == 201


@pytest.mark.parametrize("body", [SMALL, LONG], ids=["in one call", "in parts"])
async def test_what_came_while_the_bucket_was_away_is_handed_over_when_it_is_back(
    bucket: Bucket, client: Client, body: bytes
):
    """By the next question alone: nothing is sent again."""
    offer = await a_ticket(client, body)
    async with sender(bucket.house, offer) as upload:
        assert (await upload.send(body[:100_000], 0)).offset == 100_000
        bucket.front.is_busy = True
        try:
            told = await upload.send(body, 100_000)
            assert (told.status, told.problem) == (503, "unavailable")
            assert int(told.headers["Retry-After"]) > 0
            (waiting,) = bucket.waiting.iterdir()
            assert waiting.stat().st_size == len(body)
        finally:
            bucket.front.is_busy = False
        assert (await upload.ask()).offset == len(body)
    assert list(bucket.waiting.iterdir()) == []
    assert (await claim(client, f"away-{len(body)}@bucket.example.com", offer["ticket"])).status == 201


async def test_a_bucket_whose_answer_was_lost_has_it_once(bucket: Bucket, client: Client):
    offer = await a_ticket(client, SMALL)
    async with sender(bucket.house, offer) as upload:
        await upload.send(SMALL[:-1], 0)
        bucket.front.lose_next = 1
        assert (await upload.send(SMALL, len(SMALL) - 1)).offset == len(SMALL)
        assert bucket.front.lose_next == 0
    assert (await claim(client, "lost-answer@bucket.example.com", offer["ticket"])).status == 201


@pytest_asyncio.fixture(loop_scope="module")
async def other(bucket: Bucket) -> AsyncIterator[str]:
    """Another storage of the same bucket, with a disk of its own; where it answers."""
    deployment = bucket.house.deployment
    name = deployment.add("storage")
    deployment.launch(name, settings={"LEADS_DATA_DIR": str(deployment.folder / name)})
    try:
        await deployment.ready(name)
        yield deployment.url(name)
        assert not any((deployment.folder / name / "uploads" / ".incoming").iterdir())
    finally:
        await deployment.stop(name)
        del deployment.ports[name], deployment.processes[name]


async def test_another_storage_of_the_same_bucket_begins_again_and_agrees(bucket: Bucket, client: Client, other: str):
    """What has come waits on the disk of one; what is whole is there for all."""
    offer = await a_ticket(client, SMALL)
    async with sender(bucket.house, offer) as here, elsewhere(bucket, offer, other) as there:
        await here.send(SMALL[:200_000], 0)
        assert (await there.ask()).offset == 0
        assert (await there.send_all(SMALL)).offset == len(SMALL)
        assert (await here.ask()).offset == 200_000
        assert (await here.send_all(SMALL)).offset == len(SMALL)
    assert list(bucket.waiting.iterdir()) == []
    assert (await claim(client, "two@bucket.example.com", offer["ticket"])).status == 201


async def test_of_other_bytes_through_another_storage_the_first_count(bucket: Bucket, client: Client, other: str):
    offer = await a_ticket(client, SMALL)
    turned = SMALL[:1000] + SMALL[1000:][::-1]
    async with sender(bucket.house, offer) as here, elsewhere(bucket, offer, other) as there:
        await there.send(turned[:-1], 0)
        await here.send(SMALL, 0)
        told = await there.send(turned, len(SMALL) - 1)
        assert (told.status, told.problem, told.offset) == (409, "upload-conflict", len(SMALL))
        assert (await there.ask()).offset == len(SMALL)
    lead = await claim(client, "first@bucket.example.com", offer["ticket"])
    assert (lead.status, lead.json["resume"]["sha256"]) == (201, hashlib.sha256(SMALL).hexdigest())


async def test_half_an_upload_is_swept_once_its_ticket_has_expired(bucket: Bucket, client: Client):
    offer = await a_ticket(client, SMALL)
    async with sender(bucket.house, offer) as upload:
        await upload.send(SMALL[:1000], 0)
    bucket.house.deployment.kill("storage")
    (half,) = bucket.waiting.iterdir()
    expires_at = str(part_expires_at(half.name))
    half.rename(half.with_name(half.name.replace(expires_at, str(int(time.time()) - LEEWAY_SECONDS - 3600))))
    await bucket.house.deployment.restart("storage")
    while any(bucket.waiting.iterdir()):
        await asyncio.sleep(0.05)


async def test_a_disk_for_uploads_that_is_gone_is_told_of_and_forms_need_none(bucket: Bucket, client: Client):
    storage, away = bucket.house.deployment.url("storage"), bucket.waiting.with_name("away")

    async def ready() -> tuple[int, str]:
        await asyncio.sleep(1.1)  # what was found is said again for a second
        async with aiohttp.ClientSession() as ops, ops.get(f"{storage}/readyz") as response:
            return response.status, (await response.json())["checks"]["uploads"]

    assert await ready() == (200, "ok")
    bucket.waiting.rename(away)
    try:
        status, said = await ready()
        assert (status, "cannot be used" in said) == (200, True)
        assert (await client.post_lead("no-disk@bucket.example.com", pdf(3000))).status == 201
    finally:
        away.rename(bucket.waiting)
    assert await ready() == (200, "ok")


async def test_a_form_needs_none_of_that(bucket: Bucket, client: Client):
    before = set(bucket.waiting.iterdir())
    answer = await client.post_lead("form@bucket.example.com", pdf(3000))
    assert answer.status == 201
    assert set(bucket.waiting.iterdir()) == before
