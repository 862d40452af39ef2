"""What has come is kept over broken connections, and only the next byte can be next."""

import hashlib
from unittest.mock import AsyncMock

import pytest

from services.api.resumes import DEFAULT_KINDS
from services.api.storage_client import StorageClient
from services.api.uploaded import judge_uploaded
from shared.ids import new_id
from shared.problems import Problem, ProblemType
from shared.tickets import Tickets
from shared.tokens import SERVICE, Tokens
from tests.harness import raw_http
from tests.harness.storage import SECRET, Storage
from tests.harness.uploads import BODY, SIZE, break_off, half_size, sender_to, ticket_for, until


async def test_a_file_comes_in_as_many_requests_as_it_takes_and_has_no_name_before_it_is_whole(storage: Storage):
    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender:
        asked = await sender.ask()
        assert (asked.status, asked.offset, asked.headers["Upload-Length"]) == (200, 0, str(SIZE))
        assert (asked.headers["Cache-Control"], asked.headers["Tus-Resumable"]) == ("no-store", "1.0.0")
        for start, stop in ((0, 1), (1, 400_000), (400_000, 400_000), (400_000, SIZE - 1)):
            told = await sender.send(BODY[:stop], start, chunked=start == 1)
            assert (told.status, told.offset) == (204, stop)
            assert (await sender.ask()).offset == stop
            assert storage.kept() == set()
        assert (await sender.send(BODY, SIZE - 1)).offset == SIZE
        assert storage.kept() == {blob_id}
        assert storage.unfinished() == set()
        assert (await sender.ask()).offset == SIZE
    found = storage.folder / blob_id
    assert found.read_bytes() == BODY
    assert found.stat().st_mode & 0o777 == 0o600


async def test_the_receipt_for_the_api_says_what_lies_there_and_strangers_get_none(storage: Storage):
    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender:
        await sender.send(BODY, 0)
    async with storage.client.get(f"/blobs/{blob_id}/receipt") as response:
        hashed = hashlib.sha256(BODY).hexdigest()
        assert await response.json() == {"id": blob_id, "size_bytes": SIZE, "sha256": hashed}
    async with storage.client.get(f"/blobs/{new_id()}/receipt") as response:
        assert response.status == 404
    ticket = {"Authorization": f"Bearer {ticket_for(blob_id)}"}
    async with storage.client.get(f"/blobs/{blob_id}/receipt", headers=ticket) as response:
        assert response.status == 401


async def test_a_resume_that_is_swept_while_it_is_looked_at_has_not_come(storage: Storage, monkeypatch):
    """And is not judged by what the storage says instead of it."""
    ticket = ticket_for(new_id())
    wanted = Tickets(SECRET).read(ticket)
    async with (
        sender_to(storage, wanted.blob_id, ticket) as sender,
        StorageClient(f"http://127.0.0.1:{storage.port}", Tokens(SECRET, SERVICE)) as client,
    ):
        await sender.send(BODY, 0)
        receipt = await client.receipt(wanted.blob_id)
        await client.remove(wanted.blob_id)
        monkeypatch.setattr(client, "receipt", AsyncMock(return_value=receipt))
        with pytest.raises(Problem) as refused:
            await judge_uploaded(client, wanted, DEFAULT_KINDS)
        assert refused.value.type is ProblemType.UPLOAD_UNFINISHED
        assert (await sender.send_all(BODY)).offset == SIZE


async def test_what_came_before_the_connection_broke_is_kept_and_gone_on_with(storage: Storage):
    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender:
        await break_off(storage, sender, blob_id, BODY[:300_000])
        offset = (await sender.ask()).offset
        assert 100_000 < offset <= 300_000
        await break_off(storage, sender, blob_id, BODY[offset:600_001], offset)
        assert (await sender.send_all(BODY)).offset == SIZE
    assert (storage.folder / blob_id).read_bytes() == BODY


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("offset", [0, 100_000, 400_001, SIZE, 10**17])
async def test_only_the_next_byte_can_be_next(storage: Storage, offset: int, *, chunked: bool):
    """No bytes twice, none left out: neither could be told from the right ones afterwards."""
    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender:
        await sender.send(BODY[:400_000], 0)
        told = await sender.send(b"?", 0, {"Upload-Offset": str(offset)}, chunked=chunked)
        assert (told.status, told.problem) in [(409, "upload-conflict"), (413, "body-too-large")]
        assert told.status == 409 or offset >= SIZE
        assert (await sender.ask()).offset == 400_000
        assert (await sender.send_all(BODY)).offset == SIZE
    assert (storage.folder / blob_id).read_bytes() == BODY


@pytest.mark.parametrize("offset", ["", "-1", "1e3", "0x0", " ", "١", "9" * 30, "0, 0"])
async def test_an_offset_that_is_no_number_is_refused(storage: Storage, offset: str):
    async with sender_to(storage, new_id()) as sender:
        told = await sender.send(b"x", 0, {"Upload-Offset": offset})
    assert (told.status, told.problem) == (400, "malformed-request")
    assert storage.unfinished() == set()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("more", [1, 500_000])
async def test_more_than_was_promised_is_refused_and_nothing_of_it_kept(storage: Storage, more: int, *, chunked: bool):
    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender:
        await sender.send(BODY[:10], 0)
        told = await sender.send(BODY + bytes(more), 10, chunked=chunked)
        assert (told.status, told.problem) == (413, "body-too-large")
        assert (await sender.ask()).offset == 10
        assert storage.kept() == set()
        assert (await sender.send_all(BODY)).offset == SIZE


async def test_of_two_that_send_at_once_one_is_refused_and_what_is_kept_is_right(storage: Storage):
    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender, raw_http.connection(storage.port) as (reader, writer):
        writer.write(sender.raw(0, SIZE, f"/uploads/{blob_id}") + BODY[:500_000])
        await writer.drain()
        await until(lambda: half_size(storage, blob_id) > 0)
        told = await sender.send(BODY, 0)
        assert (told.status, told.problem) == (409, "upload-conflict")
        assert int(told.headers["Retry-After"]) > 0
        assert (await sender.ask()).status == 200
        writer.write(BODY[500_000:])
        assert (await raw_http.read_answer(reader)).status == 204
    assert (storage.folder / blob_id).read_bytes() == BODY


async def test_what_is_finished_never_changes(storage: Storage):
    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender:
        await sender.send(BODY, 0)
        again = await sender.send(BODY[::-1], 0)
        assert (again.status, again.problem, again.offset) == (409, "upload-conflict", SIZE)
        assert (await sender.send(b"", SIZE)).status == 204
        assert (await sender.send(BODY + b"x", SIZE)).status == 413
    assert (storage.folder / blob_id).read_bytes() == BODY
