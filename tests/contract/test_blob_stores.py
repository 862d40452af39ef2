"""One set of promises, kept by every store of resumes: a folder, a bucket in memory, real servers of S3 and Azure."""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import parse_qs, urlsplit

import aiohttp
import obstore
import pytest

from services.storage.adoption import Adopter, IntoBucket, IntoFolder
from services.storage.blobs import BlobCutShort, BlobExists, BlobMissing, BlobStore, StorageBroken, StoreUnfit
from services.storage.bodies import PIECE_BYTES
from services.storage.folder import INCOMING
from services.storage.inventory import Inventory
from services.storage.local import LocalBlobs
from services.storage.objects import PART_BYTES, ObjectBlobs
from services.storage.stores import store_of
from shared.ids import new_id
from shared.problems import Problem, ProblemType
from tests.harness.azurite import MISSING, azurite, azurite_is_here
from tests.harness.blob_places import (
    GCS_URL,
    Place,
    azure_place,
    folder_place,
    gcs_place,
    memory_place,
    s3_place,
    s3_settings,
)
from tests.harness.missing import cannot_run
from tests.harness.s3 import KEY, S3Server, s3_front

SHORT, LONG = 3_000, 2 * PART_BYTES + 12_345
"""One that goes in a single call, and one of three parts."""

NAMED = "attachment; filename*=UTF-8''cv.pdf"
FAR = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def azure(tmp_path_factory):
    if not azurite_is_here():
        cannot_run(MISSING)
    with azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(params=["folder", "memory", "s3", "azure", *(["gcs"] if GCS_URL in os.environ else [])])
def place(request, tmp_path, monkeypatch):
    if request.param == "gcs":
        return gcs_place(monkeypatch)
    if request.param == "azure":
        return azure_place(monkeypatch, request.getfixturevalue("azure"))
    if request.param == "s3":
        return s3_place(monkeypatch, request.getfixturevalue("s3_server"))
    return folder_place(tmp_path) if request.param == "folder" else memory_place()


@pytest.fixture
def adopter(place: Place) -> Iterator[Adopter]:
    with ThreadPoolExecutor(1) as threads:
        yield (
            IntoFolder(place.blobs, threads)
            if isinstance(place.blobs, LocalBlobs)
            else IntoBucket(place.blobs, threads)
        )


async def in_chunks(body: bytes, *, fails_after: int | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 65_536):
        if fails_after is not None and start >= fails_after:
            raise Problem(ProblemType.BODY_TOO_LARGE, "too long")
        yield body[start : start + 65_536]


async def read(blobs: BlobStore, blob_id: str, start: int, stop: int) -> bytes:
    return b"".join([bytes(piece) async for piece in blobs.read(blob_id, start, stop)])


async def all_ids(inventory: Inventory) -> list[str]:
    return sorted([name async for batch in inventory.listing() for name in batch])


@pytest.mark.parametrize("size", [1, SHORT, PART_BYTES, PART_BYTES + 1, LONG])
async def test_the_bytes_come_back_and_the_receipt_tells_of_them(place: Place, size: int):
    body, blob_id = os.urandom(size), new_id()
    receipt = await place.blobs.put(blob_id, in_chunks(body))
    assert (receipt.id, receipt.size_bytes, receipt.sha256) == (blob_id, size, hashlib.sha256(body).hexdigest())
    assert await read(place.blobs, blob_id, 0, size) == body
    facts = await place.blobs.facts(blob_id)
    assert (facts.id, facts.size_bytes) == (blob_id, size)
    seen, seen_body = await place.blobs.look_into(blob_id)
    assert seen == facts
    assert seen_body == (body if isinstance(place.blobs, LocalBlobs) and size <= PIECE_BYTES else None)
    assert abs(datetime.now(UTC) - facts.stored_at) < timedelta(minutes=2)
    assert await place.hidden.names() == set()


@pytest.mark.parametrize("size", [SHORT, LONG])
async def test_a_range_is_exactly_that(place: Place, size: int):
    body, blob_id = os.urandom(size), new_id()
    await place.blobs.put(blob_id, in_chunks(body))
    for start, stop in [(0, 1), (size - 1, size), (17, size - 17)]:
        assert await read(place.blobs, blob_id, start, stop) == body[start:stop]
    with pytest.raises(BlobCutShort):
        await read(place.blobs, blob_id, 0, size + 1)


@pytest.mark.parametrize("size", [SHORT, LONG])
async def test_the_same_bytes_again_get_the_same_receipt_and_others_are_refused(place: Place, size: int):
    body, blob_id = os.urandom(size), new_id()
    first = await place.blobs.put(blob_id, in_chunks(body))
    assert await place.blobs.put(blob_id, in_chunks(body)) == first
    for other in (body[::-1], body + b"more", b"short"):
        with pytest.raises(BlobExists):
            await place.blobs.put(blob_id, in_chunks(other))
    assert await read(place.blobs, blob_id, 0, size) == body
    assert await place.hidden.names() == set()


@pytest.mark.parametrize("size", [SHORT, LONG])
async def test_of_many_who_put_at_once_one_is_kept_whole(place: Place, size: int):
    bodies, blob_id = [os.urandom(size) for _ in range(4)], new_id()
    outcomes = await asyncio.gather(
        *(place.blobs.put(blob_id, in_chunks(body)) for body in bodies), return_exceptions=True
    )
    (kept,) = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert all(isinstance(outcome, BlobExists) for outcome in outcomes if outcome is not kept)
    assert hashlib.sha256(await read(place.blobs, blob_id, 0, size)).hexdigest() == kept.sha256


@pytest.mark.parametrize("fails_after", [65_536, PART_BYTES + 65_536, 2 * PART_BYTES])
async def test_a_body_that_ends_in_an_error_leaves_nothing_and_the_error_comes_out(place: Place, fails_after: int):
    blob_id = new_id()
    with pytest.raises(Problem) as raised:
        await place.blobs.put(blob_id, in_chunks(bytes(LONG), fails_after=fails_after))
    assert raised.value.type is ProblemType.BODY_TOO_LARGE
    with pytest.raises(BlobMissing):
        await place.blobs.facts(blob_id)
    assert await place.hidden.names() == set()
    assert await all_ids(place.inventory) == []
    await place.blobs.put(blob_id, in_chunks(b"now it is well"))


@pytest.mark.parametrize("size", [SHORT, LONG])
async def test_a_file_is_adopted_whole_however_often_and_goes_when_it_is_kept(
    place: Place, adopter: Adopter, tmp_path: Path, size: int
):
    body, blob_id, file = os.urandom(size), new_id(), tmp_path / "whole"
    assert not await adopter.has(blob_id)
    for _ in range(2):  # the second time as after a crash between the two
        file.write_bytes(body)
        await adopter.adopt(str(file), blob_id, NAMED)
        assert not file.exists()
        assert await adopter.has(blob_id)
        receipt = await place.blobs.receipt(blob_id)
        assert (receipt.size_bytes, receipt.sha256) == (size, hashlib.sha256(body).hexdigest())
    assert await read(place.blobs, blob_id, 0, size) == body
    assert await place.hidden.names() == set()
    if place.signs and size == SHORT:
        found = await obstore.get_async(place.blobs._bucket, blob_id)
        assert found.attributes["Content-Disposition"] == NAMED


async def test_a_file_that_cannot_be_made_durable_is_not_adopted_and_goes(
    adopter: Adopter, tmp_path: Path, monkeypatch
):
    """The kernel tells of it once: what is read afterwards may be other bytes."""
    blob_id, file = new_id(), tmp_path / "whole"
    file.write_bytes(b"which the disk did not take")
    with monkeypatch.context() as failing:
        failing.setattr(os, "fsync", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
        with pytest.raises(StorageBroken):
            await adopter.adopt(str(file), blob_id, NAMED)
    assert not file.exists()
    assert not await adopter.has(blob_id)


async def test_a_file_that_is_not_there_is_not_adopted(adopter: Adopter, tmp_path: Path):
    blob_id = new_id()
    with pytest.raises(StorageBroken):
        await adopter.adopt(str(tmp_path / "gone"), blob_id, NAMED)
    assert not await adopter.has(blob_id)


async def test_nothing_is_told_of_what_is_not_there(place: Place):
    with pytest.raises(BlobMissing):
        await place.blobs.receipt(new_id())
    with pytest.raises(BlobMissing):
        await place.blobs.look_into(new_id())


async def test_nothing_is_seen_of_a_long_body_before_its_end(place: Place):
    blob_id, seen = new_id(), []

    async def slowly() -> AsyncIterator[bytes]:
        async for chunk in in_chunks(bytes(LONG)):
            yield chunk
        try:
            await place.blobs.facts(blob_id)
        except BlobMissing:
            seen.append("nothing")

    await place.blobs.put(blob_id, slowly())
    assert seen == ["nothing"]


async def test_what_is_deleted_is_gone_and_may_be_deleted_again(place: Place):
    blob_id = new_id()
    await place.blobs.put(blob_id, in_chunks(b"kept"))
    for _ in range(2):
        await place.blobs.delete(blob_id)
    with pytest.raises(BlobMissing):
        await place.blobs.facts(blob_id)
    with pytest.raises((BlobMissing, OSError)):
        await read(place.blobs, blob_id, 0, 4)
    assert await all_ids(place.inventory) == []


async def test_pages_come_in_the_order_of_ids_and_hold_no_other_names(place: Place):
    ids = sorted(new_id() for _ in range(7))
    for blob_id in reversed(ids):
        await place.blobs.put(blob_id, in_chunks(blob_id.encode()))
    await place.blobs.note_newest_lead(new_id())
    await place.blobs.check()
    found, after, pages = [], "", 0
    while True:
        page = await place.blobs.page(stored_before=FAR, after=after, limit=3)
        found += [blob.id for blob in page.blobs]
        pages += 1
        if page.next is None:
            break
        after = page.next
    assert (found, pages) == (ids, 3)
    early = await place.blobs.page(stored_before=datetime(2020, 1, 1, tzinfo=UTC), after="", limit=3)
    assert (early.blobs, early.next) == ((), ids[2])


async def test_the_newest_lead_is_what_was_noted_last(place: Place):
    assert await place.blobs.newest_lead() is None
    for _ in range(2):
        noted = new_id()
        await place.blobs.note_newest_lead(noted)
        assert await place.blobs.newest_lead() == await place.inventory.newest_lead() == noted


async def test_an_audit_sees_the_same_blobs(place: Place):
    bodies = {new_id(): os.urandom(size) for size in (SHORT, SHORT, LONG)}
    for blob_id, body in bodies.items():
        await place.blobs.put(blob_id, in_chunks(body))
    asked = [*bodies, new_id(), "no id", "../etc"]
    facts = await place.inventory.facts(asked)
    assert {name: one.size_bytes for name, one in facts.items()} == {name: len(body) for name, body in bodies.items()}
    digests = {name: hashlib.sha256(body).hexdigest() for name, body in bodies.items()}
    assert await place.inventory.digests(asked) == digests
    assert await all_ids(place.inventory) == sorted(bodies)
    first, *others = sorted(bodies)
    await place.inventory.remove([first, new_id()])
    assert await all_ids(place.inventory) == others


NAMED = "attachment; filename*=UTF-8''Ann%20L%C3%A9e.pdf"


async def test_a_link_leads_to_an_attachment_or_there_is_none(place: Place):
    with pytest.raises(BlobMissing):
        await place.blobs.link(new_id())
    blob_id = new_id()
    await place.blobs.put(blob_id, in_chunks(b"kept"), NAMED)
    url = await place.blobs.link(blob_id)
    assert (url is not None) == place.signs
    if url is None:
        return
    async with aiohttp.ClientSession() as session, session.get(url, headers={"Range": "bytes=1-2"}) as answer:
        assert (answer.status, await answer.read()) == (206, b"ep")
        assert answer.headers["Content-Disposition"] == NAMED
        assert answer.headers["Content-Type"] == "application/octet-stream"
    query = parse_qs(urlsplit(url).query)
    if "se" in query:
        until, since = (datetime.fromisoformat(query[name][0]) for name in ("se", "st"))
        assert (until - since, query["sp"]) == (timedelta(seconds=60), ["r"])
    else:
        assert query["X-Amz-Expires"] == ["60"]


@pytest.fixture(params=["memory", "s3"])
def bucket(request, monkeypatch):
    made = memory_place() if request.param == "memory" else s3_place(monkeypatch, request.getfixturevalue("s3_server"))
    assert isinstance(made.blobs, ObjectBlobs)
    return made


async def test_what_never_got_its_name_is_swept_after_the_grace_and_not_before(bucket: Place):
    blobs = bucket.blobs
    left = f"{INCOMING}/{new_id()}.{new_id()}"
    await obstore.put_async(blobs._bucket, left, b"cut short")
    kept = new_id()
    await blobs.put(kept, in_chunks(b"kept"))
    assert await blobs.sweep(60) == 0
    assert await blobs.sweep(-5) == 1
    assert await bucket.hidden.names() == set()
    assert await all_ids(bucket.inventory) == [kept]


@pytest.mark.long
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"exists": False}, "there is no such bucket (make it, or correct LEADS_BLOB_URL)"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "the bucket cannot be used: "),
    ],
    ids=["no bucket", "no server"],
)
async def test_a_bucket_that_cannot_be_used_is_told_of_without_its_secret(
    monkeypatch, s3_server: S3Server, wrong, said
):
    blobs = store_of(s3_settings(monkeypatch, s3_server, f"bucket-{new_id()}", **wrong)).blobs
    with pytest.raises(StoreUnfit) as unfit:
        await blobs.check()
    assert str(unfit.value).startswith(said)
    assert "\n" not in str(unfit.value)
    assert KEY["AWS_SECRET_ACCESS_KEY"] not in str(unfit.value)
    for size in (SHORT, LONG):
        with pytest.raises(StorageBroken) as broken:
            await blobs.put(new_id(), in_chunks(bytes(size)))
        assert broken.value.headers["Retry-After"]
    for verb in (blobs.newest_lead(), blobs.page(stored_before=FAR, after="", limit=1), blobs.note_newest_lead("x")):
        with pytest.raises(StorageBroken):
            await verb


async def test_an_upload_whose_answer_is_lost_is_repeated_and_kept_once(monkeypatch, s3_server: S3Server):
    body, blob_id = os.urandom(SHORT), new_id()
    async with s3_front(s3_server) as front:
        behind = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{front.port}"}
        blobs = store_of(s3_settings(monkeypatch, s3_server, f"bucket-{new_id()}", **behind)).blobs
        front.lose_next = 2
        receipt = await blobs.put(blob_id, in_chunks(body))
        assert front.lose_next == 0
        assert receipt.sha256 == hashlib.sha256(body).hexdigest()
        assert await read(blobs, blob_id, 0, SHORT) == body


async def test_a_key_that_is_refused_is_told_of(monkeypatch, s3_server: S3Server):
    blobs = store_of(s3_settings(monkeypatch, s3_server, f"bucket-{new_id()}")).blobs
    s3_server.check_keys(after_calls=0)
    try:
        with pytest.raises(StoreUnfit, match=r"^the credentials are refused: InvalidAccessKeyId \(correct the"):
            await blobs.check()
        with pytest.raises(StorageBroken):
            await blobs.put(new_id(), in_chunks(b"kept"))
    finally:
        s3_server.check_keys(after_calls=10**9)
    await blobs.check()
