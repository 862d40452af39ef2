"""Short resumes that come together go to the storage in one request: each is kept, and each has its own answer."""

import asyncio
import io
import json
import math
import os
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore
from structlog.testing import capture_logs

from services.api.storage_client import StorageClient
from services.api.storage_puts import StoredBlob
from services.storage.blobs import BlobExists, Receipt
from services.storage.group_route import GroupRoute
from services.storage.local import LocalBlobs
from services.storage.objects import ObjectBlobs
from shared import blob_group, limited_http
from shared.blob_group import BLOB_MAX_BYTES, MAX_BLOBS, ShortBlob
from shared.ids import new_id
from shared.observe import begin_correlation
from shared.problems import Problem, ProblemType
from shared.tokens import SERVICE, Tokens
from tests.harness.storage import SECRET, Storage, storage_in

TOGETHER = 40


@pytest.fixture
async def storage(tmp_path):
    async with storage_in(tmp_path) as storage:
        yield storage


@pytest.fixture
def groups(monkeypatch) -> list[int]:
    """How many blobs each group had that the storage was sent."""
    sizes: list[int] = []
    put_group = LocalBlobs.put_group

    async def counted(self: LocalBlobs, blobs: list[ShortBlob]) -> Any:
        sizes.append(len(blobs))
        return await put_group(self, blobs)

    monkeypatch.setattr(LocalBlobs, "put_group", counted)
    return sizes


def client_of(storage: Storage) -> StorageClient:
    return StorageClient(f"http://127.0.0.1:{storage.port}", Tokens(SECRET, SERVICE))


async def whole(body: bytes) -> AsyncIterator[bytes]:
    yield body


def bodies(count: int = TOGETHER) -> dict[str, bytes]:
    return {new_id(): f"%PDF-1.7 resume {number}".encode() for number in range(count)}


async def put_all(client: StorageClient, given: dict[str, bytes]) -> list[StoredBlob | BaseException]:
    puts = (client.put(blob_id, whole(body)) for blob_id, body in given.items())
    return await asyncio.gather(*puts, return_exceptions=True)


async def send(storage: Storage, group: bytes, **headers: str) -> tuple[int, Any]:
    headers = {"Content-Type": blob_group.MEDIA_TYPE, **headers}
    async with storage.client.put("/blobs", data=io.BytesIO(group), headers=headers) as response:
        return response.status, await response.json()


def short(body: bytes = b"%PDF-1.7", blob_id: str = "") -> ShortBlob:
    return ShortBlob(blob_id or new_id(), body, "attachment", None)


async def test_resumes_that_come_together_share_requests_and_each_has_its_own_receipt(storage, groups):
    given = bodies()
    async with client_of(storage) as client:
        receipts = await put_all(client, given)
    assert receipts == [StoredBlob(len(body), sha256(body).hexdigest()) for body in given.values()]
    assert {blob_id: (storage.folder / blob_id).read_bytes() for blob_id in given} == given
    assert storage.unfinished() == set()
    assert 0 < len(groups) <= TOGETHER / 8
    assert max(groups) == MAX_BLOBS


async def test_a_lone_resume_goes_as_it_always_did(storage, groups):
    async with client_of(storage) as client:
        await client.put(new_id(), whole(b"%PDF-1.7"))
    assert groups == []


async def test_the_storage_tells_whose_resumes_a_group_had(storage, capsys):
    async def put(client: StorageClient, correlation_id: str) -> None:
        begin_correlation(correlation_id)
        await client.put(new_id(), whole(b"%PDF-1.7"))

    ids = [f"request-{number}" for number in range(8)]
    async with client_of(storage) as client:
        await asyncio.gather(*(put(client, correlation_id) for correlation_id in ids))
    said = capsys.readouterr().out
    assert [one for one in ids if one not in said] == []


async def test_a_resume_that_the_storage_refuses_refuses_no_other(tmp_path, groups):
    too_long = new_id()
    given = bodies()
    sent = dict([*list(given.items())[:2], (too_long, b"x" * 2_000), *list(given.items())[2:]])
    async with storage_in(tmp_path, resume_max_bytes=1_000) as storage, client_of(storage) as client:
        outcomes = dict(zip(sent, await put_all(client, sent), strict=True))
        assert storage.kept() == set(given)
    assert [blob_id for blob_id, outcome in outcomes.items() if isinstance(outcome, Problem)] == [too_long]


async def test_one_that_cannot_be_kept_is_alone_with_that(storage, monkeypatch):
    """Whichever it is, the disk or the bucket fails it: the others of its group have their receipts."""
    given = bodies()
    bad = list(given)[5]
    keep = LocalBlobs._keep_one

    def fail(self: LocalBlobs, blob: ShortBlob) -> Any:
        return OSError(5, "Input/output error") if blob.id == bad else keep(self, blob)

    monkeypatch.setattr(LocalBlobs, "_keep_one", fail)
    async with client_of(storage) as client:
        with capture_logs() as logs:
            outcomes = dict(zip(given, await put_all(client, given), strict=True))
    assert [blob_id for blob_id, outcome in outcomes.items() if isinstance(outcome, Problem)] == [bad]
    assert storage.kept() == set(given) - {bad}
    assert [line["blob"] for line in logs if line["event"] == "resume not stored"] == [bad]


async def test_a_slow_disk_is_waited_for_side_by_side(storage, monkeypatch):
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        time.sleep(0.1)
        fsync(descriptor)

    monkeypatch.setattr("services.storage.local.os.fsync", slow)
    async with client_of(storage) as client:
        began_at = time.monotonic()
        outcomes = await put_all(client, bodies())
    assert [type(outcome) for outcome in outcomes] == [StoredBlob] * TOGETHER
    assert time.monotonic() - began_at < TOGETHER * 0.1 / 2


async def test_behind_a_request_that_stands_still_nobody_waits(storage, groups, monkeypatch):
    """Also when nobody comes after them."""
    going_on, receive = asyncio.Event(), LocalBlobs._receive

    async def stand_still(self: LocalBlobs, *arguments: Any) -> Any:
        await going_on.wait()
        return await receive(self, *arguments)

    monkeypatch.setattr(LocalBlobs, "_receive", stand_still)
    async with client_of(storage) as client:
        first = asyncio.create_task(client.put(new_id(), whole(b"the first")))
        await asyncio.sleep(0.05)
        others = await asyncio.wait_for(put_all(client, bodies(2)), 1)
        assert not first.done()
        going_on.set()
        assert isinstance(await first, StoredBlob)
    assert [type(outcome) for outcome in others] == [StoredBlob] * 2


async def test_a_group_that_is_refused_costs_nobody_the_time_of_another(storage, monkeypatch):
    """Each goes by itself then, at the same time as the others; and that is said."""

    async def refuse(self: GroupRoute, _request: Any) -> None:
        raise RuntimeError("a defect")

    over = asyncio.Event()

    async def hang(self: LocalBlobs, *_: Any) -> None:
        await over.wait()
        raise OSError(5, "over")

    async with client_of(storage) as client:
        await client.put(new_id(), whole(b"so that there is a connection"))
        monkeypatch.setattr("services.storage.group_route._whole", refuse)
        monkeypatch.setattr(LocalBlobs, "_receive", hang)
        monkeypatch.setattr("services.api.storage_puts.ANSWER_SECONDS", 0.3)
        with capture_logs() as logs:
            outcomes = await asyncio.wait_for(put_all(client, bodies()), 1.5)
        over.set()
    assert [type(outcome) for outcome in outcomes] == [Problem] * TOGETHER
    told = [line for line in logs if line["event"].startswith("storage takes no groups")]
    assert 0 < len(told) <= TOGETHER / 8
    assert {line["status"] for line in told} == {500}


async def test_what_goes_wrong_is_told_with_the_ids_it_belongs_to(capsys):
    async def put(client: StorageClient, correlation_id: str) -> None:
        begin_correlation(correlation_id)
        with pytest.raises(Problem):
            await client.put(new_id(), whole(b"%PDF-1.7"))

    async with StorageClient("http://127.0.0.1:1", Tokens(SECRET, SERVICE)) as client:
        await put(client, "a-lone-request")
        assert "a-lone-request" in capsys.readouterr().out
        await asyncio.gather(*(put(client, f"request-{number}") for number in range(4)))
    said = capsys.readouterr().out
    assert [number for number in range(4) if f"request-{number}" not in said] == []
    assert "a-lone-request" not in said


async def test_a_storage_of_an_earlier_version_gets_each_by_itself(tmp_path, groups, monkeypatch):
    monkeypatch.setattr(GroupRoute, "add_to", lambda *_: None)
    first, second = bodies(), bodies()
    async with storage_in(tmp_path) as storage, client_of(storage) as client:
        with capture_logs() as asked_first:
            assert all(isinstance(outcome, StoredBlob) for outcome in await put_all(client, first))
        with capture_logs() as asked_then:
            assert all(isinstance(outcome, StoredBlob) for outcome in await put_all(client, second))
        assert storage.kept() == {*first, *second}
    assert 405 in {line.get("status") for line in asked_first}
    assert {line.get("status") for line in asked_then if line["event"] == "request"} == {201}
    assert groups == []


async def test_a_group_whose_token_is_refused_is_sent_again_with_a_new_one(storage, groups):
    async with client_of(storage) as client:
        client._hop._token, client._hop._token_until = "of another time", math.inf
        assert all(isinstance(outcome, StoredBlob) for outcome in await put_all(client, bodies()))
    assert sum(groups) == TOGETHER


async def test_a_connection_that_is_lost_after_a_group_was_stored_costs_nothing(storage, groups, monkeypatch):
    """aiohttp sends a PUT again by itself when a kept-alive connection is closed instead of answered."""
    async with client_of(storage) as client:
        await client.put(new_id(), whole(b"so that there is a kept-alive connection"))
        with monkeypatch.context() as once:
            write = limited_http._Door.write

            def lose(door: limited_http._Door, answer: bytes) -> None:
                if door._protocol.cycle.scope["path"] == "/blobs":
                    door._protocol.transport.abort()
                    once.undo()
                else:
                    write(door, answer)

            once.setattr(limited_http._Door, "write", lose)
            given = bodies(8)
            outcomes = await put_all(client, given)
    assert [type(outcome) for outcome in outcomes] == [StoredBlob] * 8
    assert groups == [8, 8]
    assert storage.kept() >= set(given)


async def test_a_storage_that_is_away_is_unavailable_to_all_at_once():
    async with StorageClient("http://127.0.0.1:1", Tokens(SECRET, SERVICE)) as client:
        outcomes = await asyncio.wait_for(put_all(client, bodies()), 1)
    assert {outcome.type for outcome in outcomes if isinstance(outcome, Problem)} == {ProblemType.UNAVAILABLE}
    assert len(outcomes) == TOGETHER


async def test_a_full_storage_is_asked_once_for_all_who_come_together(tmp_path):
    async with storage_in(tmp_path, storage_min_free_bytes=1 << 60) as storage, client_of(storage) as client:
        with capture_logs() as logs:
            outcomes = await put_all(client, bodies())
        assert storage.kept() == set()
    assert {outcome.type for outcome in outcomes if isinstance(outcome, Problem)} == {ProblemType.UNAVAILABLE}
    assert len([line for line in logs if line["event"] == "request"]) <= TOGETHER / 8


async def test_a_disk_that_fails_under_one_of_a_group_leaves_none_of_it_half_written(storage, monkeypatch):
    synced: list[int] = []

    def fail_the_third(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 3:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("services.storage.local.os.fsync", fail_the_third)
    given = [short(f"resume {number}".encode()) for number in range(5)]
    status, outcomes = await send(storage, blob_group.written(given))
    refused = {one["id"] for one in outcomes if "problem" in one}
    assert (status, len(refused), storage.unfinished()) == (200, 1, set())
    assert storage.kept() == {blob.id for blob in given} - refused
    monkeypatch.undo()
    status, receipts = await send(storage, blob_group.written(given))
    assert (status, [receipt["id"] for receipt in receipts]) == (200, [blob.id for blob in given])
    assert storage.kept() == {blob.id for blob in given}


async def test_the_same_group_again_has_the_same_receipts_and_other_bytes_are_refused(storage):
    given = [short(b"one"), short(b"two")]
    first = await send(storage, blob_group.written(given))
    assert first[0] == 200
    assert await send(storage, blob_group.written(given)) == first
    status, outcomes = await send(storage, blob_group.written([new := short(b"new"), short(b"other", given[0].id)]))
    assert (status, outcomes[0]["size_bytes"]) == (200, 3)
    assert outcomes[1]["problem"]["type"] == "urn:leads:problem:precondition-failed"
    assert (storage.folder / given[0].id).read_bytes() == b"one"
    assert (storage.folder / new.id).read_bytes() == b"new"


async def test_of_groups_with_one_id_at_once_one_is_kept_and_the_others_are_not_harmed(storage):
    blob, others = short(b"the same"), [short() for _ in range(4)]
    answers = await asyncio.gather(*(send(storage, blob_group.written([blob, other])) for other in others))
    assert [status for status, _ in answers] == [200] * 4
    assert any("problem" not in outcomes[0] for _, outcomes in answers)
    assert not any("problem" in outcomes[1] for _, outcomes in answers)
    assert (storage.folder / blob.id).read_bytes() == b"the same"
    assert storage.unfinished() == set()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"no group", 400),
        (b"[]\n", 400),
        (json.dumps([{"id": "../x", "size_bytes": 1}]).encode() + b"\na", 400),
        (blob_group.written([short(b"x" * (BLOB_MAX_BYTES + 1))]), 400),
        (bytes(blob_group.GROUP_MAX_BYTES + 1), 413),
    ],
    ids=lambda given: repr(given[:30]) if isinstance(given, bytes) else str(given),
)
async def test_what_is_no_group_is_refused_and_nothing_of_it_kept(storage, body, status):
    assert (await send(storage, body))[0] == status
    assert (storage.kept(), storage.unfinished()) == (set(), set())


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer nonsense", "Basic bm86bm8="])
async def test_a_stranger_sends_no_group(storage, authorization):
    status, _ = await send(storage, blob_group.written([short()]), Authorization=authorization)
    assert status == 401
    assert storage.kept() == set()


async def test_a_group_in_a_bucket_is_kept_each_under_its_name(tmp_path):
    blobs = ObjectBlobs(MemoryStore())
    given = [short(f"resume {number}".encode()) for number in range(MAX_BLOBS)]
    receipts = await blobs.put_group(given)
    assert [receipt.id for receipt in receipts] == [blob.id for blob in given]
    for blob in given:
        assert (await blobs.receipt(blob.id)).sha256 == sha256(blob.body).hexdigest()
    outcomes = await blobs.put_group([short(b"new"), short(b"other", given[0].id), new := short(b"newer")])
    assert [type(outcome) for outcome in outcomes] == [Receipt, BlobExists, Receipt]
    assert (await blobs.facts(new.id)).size_bytes == 5


async def test_a_bucket_that_fails_one_object_fails_no_other(monkeypatch):
    blobs, given = ObjectBlobs(MemoryStore()), [short() for _ in range(MAX_BLOBS)]
    create = ObjectBlobs._create

    async def fail(self: ObjectBlobs, blob_id: str, *arguments: Any) -> None:
        if blob_id == given[3].id:
            raise GenericError("SlowDown")
        await create(self, blob_id, *arguments)

    monkeypatch.setattr(ObjectBlobs, "_create", fail)
    outcomes = await blobs.put_group(given)
    assert [number for number, one in enumerate(outcomes) if isinstance(one, Problem)] == [3]


async def test_a_bucket_that_hangs_over_one_object_takes_no_other_along(monkeypatch):
    blobs, given = ObjectBlobs(MemoryStore()), [short() for _ in range(MAX_BLOBS)]
    create = ObjectBlobs._create

    async def hang(self: ObjectBlobs, blob_id: str, *arguments: Any) -> None:
        if blob_id == given[3].id:
            await asyncio.sleep(60)
        await create(self, blob_id, *arguments)

    monkeypatch.setattr(ObjectBlobs, "_create", hang)
    monkeypatch.setattr("services.storage.objects.GROUP_SECONDS", 0.2)
    outcomes = await asyncio.wait_for(blobs.put_group(given), 2)
    assert [number for number, one in enumerate(outcomes) if isinstance(one, Problem)] == [3]
    assert blobs._arriving == set()


async def test_another_type_than_that_of_groups_is_not_read(storage):
    status, _ = await send(storage, blob_group.written([short()]), **{"Content-Type": "application/json"})
    assert status == 415
