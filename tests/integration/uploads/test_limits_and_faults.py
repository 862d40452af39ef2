"""Slow senders, too many of them, disks that refuse, crashes: what came is kept or begun again, never mixed."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

from services.storage import folder, local, sweep, upload_routes, uploads
from services.storage.bodies import PIECE_BYTES
from services.storage.folder import part_expires_at
from shared.ids import new_id
from shared.tickets import TICKET_SECONDS, Ticket, Tickets
from shared.tokens import LEEWAY_SECONDS
from tests.harness import raw_http
from tests.harness.storage import SECRET, Storage, storage_in
from tests.harness.uploads import BODY, PUBLIC, SIZE, half_size, sender_to, until


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
            full.setattr(folder, "shortage", lambda *_: "only 1 MiB are free")
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


async def test_what_the_machine_may_have_lost_is_begun_again(storage: Storage, monkeypatch):
    blob_id = new_id()
    async with sender_to(storage, blob_id) as sender:
        await sender.send(BODY[:500_000], 0)
        monkeypatch.setattr(folder, "_boot_id", lambda: "f" * 32)  # a machine started anew, or another with that disk
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
