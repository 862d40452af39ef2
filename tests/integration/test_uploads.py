"""Uploads straight to the storage: what came is kept over whatever breaks, and no sender gets at more than its own."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from services.api.resumes import DEFAULT_KINDS
from services.api.storage_client import StorageClient
from services.api.uploaded import judge_uploaded
from services.storage import local, sweep, upload_routes, uploads
from services.storage.bodies import PIECE_BYTES
from services.storage.folder import part_expires_at
from shared.ids import new_id
from shared.problems import Problem, ProblemType
from shared.tickets import TICKET_SECONDS, Ticket, Tickets
from shared.tokens import LEEWAY_SECONDS, SERVICE, STAFF, UPLOAD, Tokens
from tests.harness import raw_http
from tests.harness.storage import SECRET, Storage, storage_in, token
from tests.harness.tus import Sender

MAX_BYTES = 3_000_000
SIZE = 1_000_000
BODY = os.urandom(SIZE)
PUBLIC = {"storage_public_url": "https://uploads.example.com", "resume_max_bytes": MAX_BYTES}


@pytest.fixture
async def storage(tmp_path: Path):
    async with storage_in(tmp_path, **PUBLIC) as storage:
        yield storage


def ticket_for(blob_id: str, size_bytes: int = SIZE) -> str:
    return Tickets(SECRET).issue(blob_id, filename="cv.pdf", size_bytes=size_bytes)


@asynccontextmanager
async def sender_to(storage: Storage, blob_id: str, ticket: str | None = None) -> AsyncIterator[Sender]:
    url = f"http://127.0.0.1:{storage.port}/uploads/{blob_id}"
    async with Sender(url, ticket_for(blob_id) if ticket is None else ticket) as sender:
        yield sender


async def until(condition) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def break_off(storage: Storage, sender: Sender, blob_id: str, body: bytes, offset: int = 0) -> None:
    """Say that all will come, send `body`, and go away once the storage has seen most of it."""
    async with raw_http.connection(storage.port) as (_, writer):
        writer.write(sender.raw(offset, SIZE - offset, f"/uploads/{blob_id}") + body)
        await writer.drain()
        await until(lambda: half_size(storage, blob_id) > offset)
    await sender.quiet(SIZE)


def half_size(storage: Storage, blob_id: str) -> int:
    halves = [path for path in (storage.folder / ".incoming").iterdir() if path.name.startswith(blob_id)]
    return halves[0].stat().st_size if halves else 0


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


@pytest.mark.parametrize(
    "ticket",
    [
        "",
        "x",
        token(),
        Tokens(SECRET, STAFF).issue("ann@example.com", 60),
        Tokens(SECRET, UPLOAD).issue("01a20fa3-8030-7b11-9c5e-0d1f6a3e7c42", 60, filename="cv.pdf", size_bytes=9),
        Tickets(SECRET[::-1]).issue("01a20fa3-8030-7b11-9c5e-0d1f6a3e7c42", filename="cv.pdf", size_bytes=9),
        Tickets(SECRET).issue("01a20fa3-8030-7b11-9c5e-0d1f6a3e7c43", filename="cv.pdf", size_bytes=9),
        Tickets(SECRET)._tokens.issue(
            "01a20fa3-8030-7b11-9c5e-0d1f6a3e7c42",
            TICKET_SECONDS,
            ahead_seconds=-TICKET_SECONDS - LEEWAY_SECONDS - 1,
            filename="cv.pdf",
            size_bytes=9,
        ),
    ],
    ids=["none", "garbage", "service", "staff", "service key", "another key", "another upload", "expired"],
)
async def test_without_the_ticket_for_this_upload_nothing_is_told_and_nothing_taken(storage: Storage, ticket: str):
    blob_id = "01a20fa3-8030-7b11-9c5e-0d1f6a3e7c42"
    async with sender_to(storage, blob_id, ticket) as sender:
        for told in (await sender.ask(), await sender.send(b"nine byte", 0)):
            assert (told.status, told.offset) == (401, None)
            assert told.headers["WWW-Authenticate"].startswith("Bearer")
    assert storage.kept() | storage.unfinished() == set()


async def test_a_ticket_opens_no_other_door(storage: Storage):
    blob_id = new_id()
    headers = {"Authorization": f"Bearer {ticket_for(blob_id)}"}
    doors = [(method, f"/blobs/{blob_id}") for method in ("PUT", "GET", "HEAD", "DELETE")]
    for method, path in [*doors, ("GET", "/blobs?stored_before=2026-01-01T00:00:00Z"), ("GET", "/newest-lead")]:
        async with storage.client.request(method, path, headers=headers, data=b"x") as response:
            assert (method, path, response.status) == (method, path, 401)
    assert storage.kept() == set()


@pytest.mark.parametrize(
    "name", ["..%2fx", "../x", ".incoming", "%00", "a" * 300, "01A20F3F-4E61-7267-BE94-C31C7A1713CA"]
)
async def test_no_path_is_made_from_what_a_sender_wrote(storage: Storage, name: str):
    before = {path: path.lstat().st_mtime_ns for path in storage.folder.parent.rglob("*")}
    async with sender_to(storage, new_id()) as sender:
        answer = await raw_http.exchange(storage.port, sender.raw(0, 4, f"/uploads/{name}") + b"evil")
    assert answer.status in {401, 404}
    assert {path: path.lstat().st_mtime_ns for path in storage.folder.parent.rglob("*")} == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Tus-Resumable": ""}, 412),
        ({"Tus-Resumable": "0.2.2"}, 412),
        ({"Content-Type": "application/pdf"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_what_is_not_in_the_protocols_words_is_refused(storage: Storage, headers: dict[str, str], status: int):
    async with sender_to(storage, new_id()) as sender:
        told = await sender.send(BODY, 0, headers)
    assert (told.status, told.headers["Tus-Resumable"]) == (status, "1.0.0")
    assert status != 412 or told.headers["Tus-Version"] == "1.0.0"
    assert storage.unfinished() == set()


async def test_who_asks_first_is_told_what_is_spoken(storage: Storage):
    async with storage.client.options(f"/uploads/{new_id()}") as response:
        assert response.status == 204
        assert (response.headers["Tus-Version"], response.headers["Tus-Max-Size"]) == ("1.0.0", str(MAX_BYTES))


async def test_a_ticket_for_more_than_the_storage_takes_is_good_for_nothing(storage: Storage):
    blob_id = new_id()
    async with sender_to(storage, blob_id, ticket_for(blob_id, MAX_BYTES + 1)) as sender:
        assert (await sender.send(b"x", 0)).status == 413
    assert storage.unfinished() == set()


async def test_silence_ends_a_request_and_keeps_what_came(storage: Storage, monkeypatch):
    monkeypatch.setattr(upload_routes, "SILENCE_SECONDS", 0.3)
    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender:
        head = sender.raw(0, SIZE, f"/uploads/{blob_id}")
        answer = await raw_http.exchange(storage.port, head + BODY[:200_000])
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        # Also the last bytes, which are too few for a trip to the disk of their own.
        assert (await sender.ask()).offset == 200_000 > PIECE_BYTES


async def test_a_trickle_is_cut_off(storage: Storage, monkeypatch):
    """Each byte comes in time, and all of them would take for ever."""
    monkeypatch.setattr(upload_routes, "SILENCE_SECONDS", 0.5)
    blob_id = new_id()

    async def trickle() -> AsyncIterator[bytes]:
        for number in range(10_000):
            yield BODY[number : number + 1]
            await asyncio.sleep(0.05)

    async with sender_to(storage, blob_id) as sender:
        began_at = time.monotonic()
        answer = await raw_http.exchange(storage.port, sender.raw(0, SIZE, f"/uploads/{blob_id}"), trickle())
        assert answer.status == 408
        assert time.monotonic() - began_at < 10
        assert 0 < ((await sender.ask()).offset or 0) < 10_000


async def test_a_request_ends_when_its_ticket_does(storage: Storage, monkeypatch):
    monkeypatch.setattr(upload_routes, "SILENCE_SECONDS", 60.0)
    blob_id = new_id()
    soon = Tickets(SECRET)._tokens.issue(
        blob_id,
        TICKET_SECONDS,
        ahead_seconds=-TICKET_SECONDS - LEEWAY_SECONDS + 2,
        filename="cv.pdf",
        size_bytes=SIZE,
    )
    async with sender_to(storage, blob_id, soon) as sender:
        answer = await raw_http.exchange(storage.port, sender.raw(0, SIZE, f"/uploads/{blob_id}") + BODY[:1000])
        assert answer.status == 408
        assert (await sender.ask()).status == 401


async def test_too_many_senders_at_once_are_told_to_come_again(storage: Storage, monkeypatch):
    monkeypatch.setattr(uploads, "UPLOADS_AT_ONCE", 1)
    first, second = new_id(), new_id()
    async with sender_to(storage, first) as one, sender_to(storage, second) as other:
        async with raw_http.connection(storage.port) as (_, writer):
            writer.write(one.raw(0, SIZE, f"/uploads/{first}") + BODY[:300_000])
            await until(lambda: half_size(storage, first) > 0)
            told = await other.send(BODY, 0)
            assert (told.status, told.problem) == (503, "unavailable")
            assert int(told.headers["Retry-After"]) > 0
        await one.quiet(SIZE)
        assert (await other.send_all(BODY)).offset == SIZE


async def test_with_too_little_free_nothing_more_is_taken_in(storage: Storage, monkeypatch):
    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender:
        await sender.send(BODY[:10], 0)
        with monkeypatch.context() as full:
            full.setattr(uploads, "shortage", lambda *_: "only 1 MiB are free")
            told = await sender.send(BODY, 10)
            assert (told.status, told.problem) == (507, "storage-full")
        assert (await sender.ask()).offset == 10
        assert (await sender.send_all(BODY)).offset == SIZE


async def test_what_the_disk_refused_once_is_begun_again(storage: Storage, monkeypatch):
    """fsync tells once what could not be written (https://wiki.postgresql.org/wiki/Fsync_Errors). The next one, of the
    same file, would succeed all the same, and make a lead of bytes that are not there after a restart."""
    fsync, failures = os.fsync, iter([OSError(5, "Input/output error")])

    def failing_once(descriptor: int) -> None:
        if failure := next(failures, None):
            raise failure
        fsync(descriptor)

    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender:
        monkeypatch.setattr(os, "fsync", failing_once)
        assert (await sender.send(BODY, 0)).status == 503
        assert (await sender.ask()).offset == 0
        assert storage.kept() | storage.unfinished() == set()
        assert (await sender.send_all(BODY)).offset == SIZE
    assert (storage.folder / blob_id).read_bytes() == BODY


async def test_who_asks_for_what_is_long_finished_costs_the_others_no_sync(storage: Storage, monkeypatch):
    """One fsync of the folder runs at a time: who could have one for each question would make every form wait."""
    synced: list[int] = []
    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender:
        await sender.send(BODY, 0)
        monkeypatch.setattr(os, "fsync", synced.append)
        assert (await sender.ask()).offset == SIZE
        assert (await sender.send(b"", SIZE)).offset == SIZE
    assert synced == []


async def test_senders_wait_for_the_disk_in_threads_of_their_own(storage: Storage, monkeypatch):
    fsync, threads = os.fsync, set()

    def noting(descriptor: int) -> None:
        threads.add(threading.current_thread().name.rpartition("_")[0])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noting)
    async with sender_to(storage, new_id()) as sender:
        assert (await sender.send(BODY, 0)).status == 204
    assert threads == {"upload-writer", "folder-sync"}


async def test_a_crash_between_name_and_clearing_up_changes_nothing(storage: Storage, monkeypatch):
    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender:
        with monkeypatch.context() as crashing:
            crashing.setattr(local, "remove", lambda _: (_ for _ in ()).throw(OSError(5, "killed")))
            assert (await sender.send(BODY, 0)).status == 503
        assert (storage.kept(), len(storage.unfinished())) == ({blob_id}, 1)
        assert (await sender.send(BODY, 0)).status == 409
        assert (await sender.ask()).offset == SIZE
    assert storage.unfinished() == set()
    assert (storage.folder / blob_id).read_bytes() == BODY


async def test_what_the_machine_may_have_lost_is_begun_again(storage: Storage):
    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender:
        await sender.send(BODY[:500_000], 0)
        (half,) = (storage.folder / ".incoming").iterdir()
        os.utime(half, (0, 0))
        assert (await sender.ask()).offset == 0
        assert (await sender.send_all(BODY)).offset == SIZE
    assert (storage.folder / blob_id).read_bytes() == BODY


async def test_what_is_gone_the_moment_before_it_is_gone_on_with_leaves_no_gap(storage: Storage, monkeypatch):
    """As a sweep may take it whose clock jumped. The rest alone would be as long as its sender is told, and wrong."""
    blob_id, opening = new_id(), uploads.Uploads._open

    def gone(self: uploads.Uploads, ticket: Ticket, offset: int) -> int:
        Path(self._path(ticket)).unlink()
        return opening(self, ticket, offset)

    async with sender_to(storage, blob_id) as sender:
        await sender.send(BODY[:400_000], 0)
        with monkeypatch.context() as sweeping:
            sweeping.setattr(uploads.Uploads, "_open", gone)
            assert (await sender.send(BODY, 400_000)).status == 503
        assert (await sender.ask()).offset == 0
        assert (await sender.send_all(BODY)).offset == SIZE
    assert (storage.folder / blob_id).read_bytes() == BODY


async def test_half_an_upload_is_swept_once_its_ticket_has_expired_and_not_before(tmp_path: Path):
    incoming = tmp_path / "resumes" / ".incoming"
    async with storage_in(tmp_path, **PUBLIC) as storage, sender_to(storage, new_id()) as sender:
        await sender.send(BODY[:1000], 0)
    (half,) = incoming.iterdir()
    expires_at = part_expires_at(half.name)
    assert expires_at is not None
    os.utime(half, 2 * (time.time() - 600,))  # nobody writes to it, and its sender may still come back
    late = half.with_name(half.name.replace(str(expires_at), str(int(time.time()) - LEEWAY_SECONDS - 61)))
    late.write_bytes(b"half")
    assert await sweep.sweep(incoming, arriving=frozenset, grace_seconds=60) == 1
    assert [path.name for path in incoming.iterdir()] == [half.name]
    assert await sweep.sweep(incoming, arriving=lambda: frozenset({half.name}), grace_seconds=-TICKET_SECONDS - 61) == 0
    assert await sweep.sweep(incoming, arriving=frozenset, grace_seconds=-TICKET_SECONDS - 61) == 1


async def test_pages_of_other_origins_may_send_only_where_a_setting_names_them(tmp_path: Path):
    asked = {
        "Origin": "https://careers.example",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,tus-resumable,upload-offset,content-type",
    }
    named = {"allowed_origins": ("https://careers.example",)}
    for number, (settings, status) in enumerate([({**PUBLIC, **named}, 200), (PUBLIC, 204), (named, 404)]):
        async with (
            storage_in(tmp_path / str(number), **settings) as storage,
            storage.client.options(f"/uploads/{new_id()}", headers=asked) as response,
        ):
            allowed = response.headers.get("Access-Control-Allow-Origin")
            assert response.status == status
            assert allowed == ("https://careers.example" if status == 200 else None)


async def test_where_no_setting_opens_it_the_door_is_not_there(tmp_path: Path):
    async with storage_in(tmp_path) as storage, sender_to(storage, new_id()) as sender:
        assert (await sender.send(BODY, 0)).status == 404
        assert storage.unfinished() == set()
        service = {"Authorization": f"Bearer {Tokens(SECRET, SERVICE).issue('api', 60)}"}
        async with storage.client.get(f"/blobs/{new_id()}/receipt", headers=service) as response:
            assert response.status == 404
