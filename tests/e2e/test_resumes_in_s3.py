"""A whole deployment whose resumes are in a bucket of a real S3 server, on its good days and its bad ones."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pytest

from shared.health import CHECK_TIMEOUT_SECONDS
from shared.ids import new_id
from tests.harness import kept
from tests.harness.client import Answer, Client
from tests.harness.commands import leads
from tests.harness.deployment import ADMIN, PASSWORD, Deployment
from tests.harness.files import pdf
from tests.harness.inbox import wait_for
from tests.harness.proxy import Proxy
from tests.harness.s3 import S3Server, s3_front
from tests.harness.sizes import House, with_s3
from tests.harness.stored import hashes, stored

MIB = 1024 * 1024
PATIENCE_SECONDS = 30.0
"""For a machine that is busy with other things."""

SETTINGS = {
    "LEADS_RESUME_MAX_BYTES": str(16 * MIB),
    "LEADS_ORPHAN_GRACE_SECONDS": "2",
    "LEADS_SWEEP_INTERVAL_SECONDS": "0.3",
}
SIZES = [3_000, 1 * MIB, 12 * MIB]
"""In one piece; streamed by the api and put in one call; in three parts."""


@asynccontextmanager
async def client_of(house: House) -> AsyncIterator[Client]:
    async with Client(house.deployment.api_url) as client:
        assert (await client.login(ADMIN, PASSWORD)).status == 200
        yield client


async def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def is_ready(client: Client) -> bool:
    return (await client.call("GET", "/readyz")).status == 200


async def until_ready(client: Client, *, ready: bool = True) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while await is_ready(client) is not ready:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


async def sent(client: Client, email: str, size_bytes: int) -> Answer:
    return await client.post_lead(email, BytesIO(pdf(size_bytes)))


def is_refused(answer: Answer) -> None:
    assert (answer.status, answer.json["type"]) == (503, "urn:leads:problem:unavailable")
    assert int(answer.headers["Retry-After"]) > 0


async def nothing_is_left(house: House, before: tuple[int, ...]) -> None:
    """What arrived in the bucket although nobody heard of it is swept."""
    look = kept.traces(house.deployment, house.inbox)
    await until(lambda: look() == before and not kept.unfinished(house.deployment))


async def goes_on(house: House, client: Client, email: str, size_bytes: int) -> None:
    """The same lead is taken once the bucket is there again."""
    await until_ready(client)
    answer = await sent(client, email, size_bytes)
    assert answer.status == 201
    assert hashes(house.deployment)[answer.json["resume_path"]] == sha256(pdf(size_bytes)).hexdigest()
    await wait_for(house.inbox, 2, lead_id=answer.json["id"])


@pytest.mark.long
async def test_a_lead_comes_in_is_read_in_parts_and_all_of_it_adds_up(tmp_path: Path, s3_server: S3Server):
    async with with_s3(tmp_path, s3_server, SETTINGS) as house, client_of(house) as client:
        for size in SIZES:
            resume = pdf(size)
            answer = await sent(client, f"lead{size}@example.com", size)
            assert answer.status == 201
            lead = answer.json
            assert stored(house.deployment).read(lead["resume_path"]) == resume
            path = f"/leads/{lead['id']}/resume"
            whole = await client.call("GET", path)
            assert (whole.status, whole.body) == (200, resume)
            assert whole.headers["X-Content-Type-Options"] == "nosniff"
            part = await client.call("GET", path, headers={"Range": "bytes=100-1099"})
            assert (part.status, part.body) == (206, resume[100:1100])
            assert part.headers["Content-Range"] == f"bytes 100-1099/{len(resume)}"
            beyond = await client.call("GET", path, headers={"Range": f"bytes={len(resume)}-"})
            assert beyond.status == 416
        orphan = new_id()
        stored(house.deployment).write(orphan, b"whose lead never came")
        await until(lambda: orphan not in kept.blobs(house.deployment))
        assert len(kept.blobs(house.deployment)) == len(SIZES)
        assert kept.unfinished(house.deployment) == set()
        assert not (house.deployment.data / "resumes").exists()
        await wait_for(house.inbox, 2 * len(SIZES))
        done = await leads(house.deployment, "audit", "--deep")
        assert (done.status, done.errors) == (0, "")


@pytest.mark.long
async def test_staff_are_led_to_the_bucket_where_that_is_allowed_and_can_be_done_safely(
    tmp_path: Path, s3_server: S3Server
):
    async with (
        with_s3(tmp_path, s3_server, {**SETTINGS, "LEADS_BLOB_REDIRECT": "true"}) as house,
        client_of(house) as client,
        Client("") as stranger,
    ):
        short, long = [(await sent(client, f"{size}@example.com", size)).json for size in (3_000, 12 * MIB)]
        answer = await client.call("GET", f"/leads/{short['id']}/resume", headers={"Range": "bytes=0-9"})
        assert (answer.status, answer.body) == (307, b"")
        assert answer.headers["Cache-Control"] == "no-store"
        file = await stranger.call("GET", answer.headers["Location"], headers={"Range": "bytes=0-9"})
        assert (file.status, file.body) == (206, pdf(3_000)[:10])
        assert file.headers["Content-Disposition"] == "attachment; filename*=UTF-8''cv.pdf"
        assert file.headers["Content-Type"] == "application/octet-stream"
        head = await client.call("HEAD", f"/leads/{short['id']}/resume")
        assert (head.status, head.headers["Content-Length"]) == (200, "3000"), "a link would be for GET alone"
        streamed = await client.call("GET", f"/leads/{long['id']}/resume")
        assert (streamed.status, streamed.body) == (200, pdf(12 * MIB))
        assert (await stranger.call("GET", f"{client.url}/leads/{short['id']}/resume")).status == 401
        stored(house.deployment).remove(short["resume_path"])
        assert (await client.call("GET", f"/leads/{short['id']}/resume")).status == 404


@pytest.mark.long
async def test_an_audit_names_what_the_bucket_lost_and_what_it_spoiled(tmp_path: Path, s3_server: S3Server):
    async with with_s3(tmp_path, s3_server) as house, client_of(house) as client:
        lost, spoiled, _ = [(await client.post_lead(f"{n}@example.com", pdf(3000))).json for n in "abc"]
        await wait_for(house.inbox, 6)
        stored(house.deployment).remove(lost["resume_path"])
        stored(house.deployment).write(spoiled["resume_path"], pdf(3000)[::-1])
        done = await leads(house.deployment, "audit", "--deep")
        assert done.status == 1
        assert lost["id"] in done.output
        assert spoiled["id"] in done.output
        assert (await client.call("GET", f"/leads/{lost['id']}/resume")).status == 404


@pytest.mark.long
async def test_a_moment_of_slow_down_is_waited_out_and_a_long_one_is_a_503(tmp_path: Path, s3_server: S3Server):
    async with (
        s3_front(s3_server) as front,
        with_s3(tmp_path, s3_server, SETTINGS, s3_port=front.port) as house,
        client_of(house) as client,
    ):
        for size in SIZES:
            front.refuse_next = 1
            assert (await sent(client, f"moment{size}@example.com", size)).status == 201
        assert front.refused == len(SIZES)
        await wait_for(house.inbox, 2 * len(SIZES))
        before = kept.traces(house.deployment, house.inbox)()
        front.is_busy = True
        for size in SIZES:
            is_refused(await sent(client, f"long{size}@example.com", size))
        await until_ready(client, ready=False)
        said = [line for line in house.deployment.log("storage") if line["event"] == "resume not stored"]
        assert all(line["reason"] == "the bucket answers SlowDown: Please reduce your request rate." for line in said)
        assert said
        front.is_busy = False
        await nothing_is_left(house, before)
        for size in SIZES:
            await goes_on(house, client, f"long{size}@example.com", size)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["away", "slow", "silent"])
async def test_a_bucket_that_is_away_or_slow_is_a_503_and_nothing_is_half_kept(
    tmp_path: Path, s3_server: S3Server, fault: str
):
    async with (
        Proxy(s3_server.port) as proxy,
        with_s3(tmp_path, s3_server, SETTINGS, s3_port=proxy.port) as house,
        client_of(house) as client,
    ):
        answer = await client.post_lead("first@example.com", pdf(3000))
        assert answer.status == 201
        await wait_for(house.inbox, 2)
        before = kept.traces(house.deployment, house.inbox)()
        if fault == "away":
            await proxy.refuse()
            proxy.reset()
        elif fault == "silent":
            proxy.black_hole()
        else:
            proxy.delay_seconds = 2 * CHECK_TIMEOUT_SECONDS
        for size in SIZES:
            is_refused(await sent(client, f"lead{size}@example.com", size))
        is_refused(await client.call("GET", f"/leads/{answer.json['id']}/resume"))
        await until_ready(client, ready=False)
        await proxy.heal()
        await nothing_is_left(house, before)
        for size in SIZES:
            await goes_on(house, client, f"lead{size}@example.com", size)


@pytest.mark.long
async def test_a_storage_starts_without_its_bucket_says_so_and_goes_on_by_itself(tmp_path: Path, s3_server: S3Server):
    async with (
        s3_front(s3_server) as front,
        with_s3(tmp_path, s3_server, SETTINGS, s3_port=front.port) as house,
        client_of(house) as client,
    ):
        front.is_busy = True
        assert await house.deployment.stop("storage") == 0
        house.deployment.launch("storage")
        await said_by_the_storage(house.deployment, "bucket", "the bucket answers SlowDown")
        await until(lambda: unswept(house.deployment))
        assert all(reason.startswith("the bucket answers SlowDown") for reason in unswept(house.deployment))
        is_refused(await client.post_lead("early@example.com", pdf(3000)))
        front.is_busy = False
        await goes_on(house, client, "early@example.com", 3000)


def unswept(deployment: Deployment) -> list[str]:
    """Why, each time."""
    return [one["reason"] for one in deployment.log("storage") if one["event"] == "unfinished resumes not swept"]


async def said_by_the_storage(deployment: Deployment, check: str, text: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    async with Client(f"http://127.0.0.1:{deployment.ports['storage']}") as storage:
        while True:
            try:
                answer = await storage.call("GET", "/readyz")
            except OSError:
                answer = None
            if answer is not None and text in answer.json["checks"][check]:
                assert answer.status == 503
                return
            assert time.monotonic() < deadline, answer and answer.body
            await asyncio.sleep(0.1)
