"""The storage room and its disk: what is safe before the answer, and what becomes of a disk that refuses."""

import asyncio
import errno
import os
import socket
import stat
import threading
import time
from collections.abc import Mapping
from contextlib import chdir
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.storage import folder as storage_folder
from services.storage import local
from services.storage.blobs import BlobExists, StoreUnfit
from services.storage.folder import FolderSync, check_folder, prepare_folder
from services.storage.local import LocalBlobs
from services.storage.main import create_app
from services.storage.settings import StorageSettings
from services.storage.sweep import sweep
from shared.ids import new_id
from shared.settings import SettingsError
from tests.harness.storage import SECRET, Storage, storage_in

SHORT, LONG = 1000, 290_000
"""One that is written in a single piece, and one that is streamed to the disk."""


@pytest.fixture
def blobs(tmp_path: Path):
    folder = tmp_path / "resumes"
    prepare_folder(folder, setting="LEADS_BLOB_URL")
    blobs = LocalBlobs(folder, min_free_bytes=0)
    yield blobs
    blobs.close()
    assert list(blobs.incoming.iterdir()) == []


async def chunks(*bodies: bytes, then: asyncio.Event | None = None):
    for body in bodies:
        yield body
        if then is not None:
            await then.wait()


async def put(storage: Storage, body: bytes) -> tuple[int, dict, Mapping[str, str]]:
    async with storage.client.put(f"/blobs/{new_id()}", data=chunks(body)) as response:
        return response.status, await response.json(), response.headers


async def until(holds) -> None:
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("size", [SHORT, LONG])
async def test_the_file_is_synced_then_named_then_its_folder_is_synced_then_it_is_answered(
    blobs: LocalBlobs, monkeypatch, size: int
):
    happened: list[str] = []
    folder_may_sync = threading.Event()
    fsync, link = os.fsync, os.link

    def watched_fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            folder_may_sync.wait(5)
            happened.append("fsync of the folder")
        else:
            happened.append(f"fsync of {os.fstat(descriptor).st_size} bytes")
        fsync(descriptor)

    def watched_link(old: str, new: str) -> None:
        happened.append("name")
        link(old, new)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "link", watched_link)
    putting = asyncio.create_task(blobs.put(new_id(), chunks(bytes(size))))
    await until(lambda: "name" in happened)
    await asyncio.sleep(0.02)
    assert not putting.done()
    folder_may_sync.set()
    await putting
    assert happened == [f"fsync of {size} bytes", "name", "fsync of the folder"]


async def test_one_sync_of_the_folder_serves_all_who_came_before_it_began_and_nobody_who_came_later(
    tmp_path: Path, monkeypatch
):
    began: list[int] = []
    may_end = [threading.Event() for _ in range(3)]

    def slow(_folder: Path) -> None:
        began.append(len(began))
        may_end[began[-1]].wait(5)

    monkeypatch.setattr(storage_folder, "sync_folder", slow)
    sync = FolderSync(tmp_path)
    first = asyncio.create_task(sync.wait())
    await until(lambda: began == [0])
    during_first = [asyncio.create_task(sync.wait()) for _ in range(5)]
    await asyncio.sleep(0.01)
    may_end[0].set()
    await first
    await until(lambda: began == [0, 1])
    during_second = asyncio.create_task(sync.wait())
    await asyncio.sleep(0.01)
    assert not any(one.done() for one in [*during_first, during_second])
    may_end[1].set()
    await asyncio.gather(*during_first)
    assert not during_second.done()
    may_end[2].set()
    await during_second
    assert began == [0, 1, 2]
    sync.close()


async def test_a_deletion_is_answered_after_the_folder_is_synced(blobs: LocalBlobs, monkeypatch):
    synced = []
    monkeypatch.setattr(storage_folder, "sync_folder", synced.append)
    blob_id = new_id()
    await blobs.put(blob_id, chunks(b"kept"))
    await blobs.delete(blob_id)
    await blobs.delete(blob_id)
    assert len(synced) == 3


async def test_an_id_is_used_once_and_what_is_there_stays(blobs: LocalBlobs):
    blob_id = new_id()
    await blobs.put(blob_id, chunks(b"first"))
    for body in (b"second", bytes(LONG)):
        with pytest.raises(BlobExists):
            await blobs.put(blob_id, chunks(body))
    assert (blobs.incoming.parent / blob_id).read_bytes() == b"first"


@pytest.mark.parametrize("size", [SHORT, LONG])
async def test_the_same_bytes_once_more_get_their_receipt_once_more_and_as_durably(blobs, monkeypatch, size: int):
    blob_id, body = new_id(), os.urandom(size)
    receipt = await blobs.put(blob_id, chunks(body))
    synced = []
    monkeypatch.setattr(storage_folder, "sync_folder", synced.append)
    assert await blobs.put(blob_id, chunks(body)) == receipt
    assert len(synced) == 1, "whoever stored it may not have synced the folder yet"
    assert (blobs.incoming.parent / blob_id).read_bytes() == body
    assert list(blobs.incoming.iterdir()) == []


async def test_of_twenty_at_once_under_one_id_one_is_kept_whole(tmp_path: Path):
    blob_id = new_id()
    bodies = [os.urandom(SHORT if number % 2 else LONG) for number in range(20)]
    async with storage_in(tmp_path) as storage:

        async def send(body: bytes) -> int:
            async with storage.client.put(f"/blobs/{blob_id}", data=chunks(body)) as response:
                return response.status

        answers = await asyncio.gather(*(send(body) for body in bodies))
        assert sorted(answers) == [201] + 19 * [412]
        assert (storage.folder / blob_id).read_bytes() == bodies[answers.index(201)]
        assert storage.unfinished() == set()


@pytest.mark.parametrize("size", [SHORT, LONG])
async def test_two_processes_on_one_folder_never_overwrite_each_other(blobs: LocalBlobs, size: int):
    other = LocalBlobs(blobs.incoming.parent, min_free_bytes=0)
    for _ in range(20):
        blob_id = new_id()
        pair = [os.urandom(size), os.urandom(size)]
        outcomes = await asyncio.gather(
            *(store.put(blob_id, chunks(body)) for store, body in zip((blobs, other), pair, strict=True)),
            return_exceptions=True,
        )
        assert sorted(isinstance(outcome, BlobExists) for outcome in outcomes) == [False, True]
        kept = next(body for body, outcome in zip(pair, outcomes, strict=True) if not isinstance(outcome, BlobExists))
        assert (blobs.incoming.parent / blob_id).read_bytes() == kept
    other.close()


@pytest.mark.parametrize("size", [SHORT, LONG])
async def test_a_full_disk_is_507_and_leaves_nothing(tmp_path: Path, monkeypatch, size: int):
    private = storage_folder.open_private

    def on_a_full_disk(path: str, flags: int) -> int:
        os.close(private(path, flags))
        return os.open("/dev/full", os.O_WRONLY)

    async with storage_in(tmp_path) as storage:
        with monkeypatch.context() as full:
            full.setattr(storage_folder, "open_private", on_a_full_disk)
            full.setattr(local, "open_private", on_a_full_disk)
            status, problem, _ = await put(storage, bytes(size))
        assert (status, problem["type"]) == (507, "urn:leads:problem:storage-full")
        assert storage.kept() | storage.unfinished() == set()
        assert (await put(storage, bytes(size)))[0] == 201


@pytest.mark.parametrize("size", [SHORT, LONG])
@pytest.mark.parametrize("fault", [errno.EIO, errno.EROFS, errno.EACCES])
async def test_a_disk_that_fails_is_503_and_leaves_nothing(tmp_path: Path, monkeypatch, size: int, fault: int):
    def failing(*_: object) -> None:
        raise OSError(fault, os.strerror(fault))

    async with storage_in(tmp_path) as storage:
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync" if fault == errno.EIO else "link", failing)
            status, problem, headers = await put(storage, bytes(size))
        assert (status, problem["type"]) == (503, "urn:leads:problem:unavailable")
        assert str(storage.folder) not in problem["detail"]
        assert int(headers["Retry-After"]) > 0
        assert storage.kept() | storage.unfinished() == set()
        assert (await put(storage, bytes(size)))[0] == 201


async def test_what_cannot_be_made_durable_is_not_answered_as_kept(blobs: LocalBlobs, monkeypatch):
    def failing(_folder: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(storage_folder, "sync_folder", failing)
    outcomes = await asyncio.gather(*(blobs.put(new_id(), chunks(b"lost?")) for _ in range(5)), return_exceptions=True)
    assert {type(outcome).__name__ for outcome in outcomes} == {"StorageBroken"}


async def test_the_sweep_at_start_takes_what_a_dead_process_left_and_leaves_what_is_young(tmp_path: Path):
    incoming = tmp_path / "resumes" / ".incoming"
    incoming.mkdir(parents=True)
    for name, age_seconds in {"old": 61, "young": 30}.items():
        (incoming / name).write_bytes(b"half")
        os.utime(incoming / name, 2 * (time.time() - age_seconds,))
    async with storage_in(tmp_path) as storage:
        await until(lambda: storage.unfinished() == {"young"})


async def test_the_sweep_never_takes_what_is_still_arriving(blobs: LocalBlobs):
    more = asyncio.Event()
    slow, left = new_id(), new_id()
    putting = asyncio.create_task(blobs.put(slow, chunks(bytes(LONG), bytes(LONG), then=more)))
    (blobs.incoming / left).write_bytes(b"half")
    await until((blobs.incoming / slow).exists)
    with pytest.raises(BlobExists):
        await blobs.put(slow, chunks(b"once more"))
    for name in (slow, left):
        os.utime(blobs.incoming / name, (0, 0))
    assert await sweep(blobs.incoming, arriving=blobs.arriving, grace_seconds=60) == 1
    assert {path.name for path in blobs.incoming.iterdir()} == {slow}
    more.set()
    assert (await putting).size_bytes == 2 * LONG


async def test_pages_go_through_all_blobs_in_order_and_hold_those_stored_before_the_instant(tmp_path: Path):
    async with storage_in(tmp_path) as storage:
        ids = [new_id() for _ in range(5)]
        for blob_id in reversed(ids):
            async with storage.client.put(f"/blobs/{blob_id}", data=b"kept"):
                pass
        for number, blob_id in enumerate(ids[:4]):
            os.utime(storage.folder / blob_id, 2 * (1_700_000_000 + number,))
        (storage.folder / "README").write_text("no blob")
        (storage.folder / new_id()).mkdir()

        async def page(**query: str) -> tuple[list[str], str | None]:
            async with storage.client.get("/blobs", params=query) as response:
                body = await response.json()
                assert all(blob["size_bytes"] == 4 for blob in body["blobs"])
                return [blob["id"] for blob in body["blobs"]], body["next"]

        soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
        assert await page(stored_before=soon, limit="2") == (ids[:2], ids[1])
        assert await page(stored_before=soon, limit="2", after=ids[1]) == (ids[2:4], ids[3])
        assert await page(stored_before=soon, limit="2", after=ids[3]) == (ids[4:], None)
        third_at = datetime.fromtimestamp(1_700_000_002, UTC).isoformat()
        assert await page(stored_before=third_at) == (ids[:2], None)
        assert await page(stored_before=third_at, limit="2", after=ids[1]) == ([], ids[3])


async def test_what_is_no_file_is_no_blob(tmp_path: Path):
    async with storage_in(tmp_path) as storage:
        (tmp_path / "secret").write_text("not ours to show")
        folder, link, pipe, door = (storage.folder / new_id() for _ in range(4))
        folder.mkdir()
        link.symlink_to(tmp_path / "secret")
        os.mkfifo(pipe)
        with socket.socket(socket.AF_UNIX) as listening, chdir(storage.folder):
            listening.bind(door.name)  # by its name alone: a whole path may be too long for a socket
            for path in (folder, link, pipe, door):
                for method in ("GET", "HEAD"):
                    async with storage.client.request(method, f"/blobs/{path.name}") as response:
                        assert response.status == 404, (path, method)


async def test_the_folder_is_for_its_owner_only(tmp_path: Path):
    (tmp_path / "resumes").mkdir(mode=0o755)
    async with storage_in(tmp_path) as storage:
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (storage.folder, storage.folder / ".incoming")}
    assert modes == {0o700}


async def test_a_room_without_room_is_not_ready(tmp_path: Path):
    async with storage_in(tmp_path, storage_min_free_bytes=2**60) as storage, storage.client.get("/readyz") as response:
        assert response.status == 503
        assert "MiB are free" in (await response.json())["checks"]["folder"]


async def test_a_folder_that_takes_nothing_is_not_ready(blobs: LocalBlobs, monkeypatch):
    await blobs.check()

    def failing(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", failing)
    with pytest.raises(StoreUnfit, match="not permitted"):
        check_folder(blobs.incoming.parent, 0)


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3://bucket?x=1",
        "ftp://bucket",
        "file://elsewhere/folder",
        "file:///",
        "resumes",
        "file:///dev/null/x",
    ],
)
def test_a_folder_that_cannot_be_is_said_at_start(tmp_path: Path, url: str):
    with pytest.raises(SettingsError, match="LEADS_BLOB_URL"):
        create_app(StorageSettings(data_dir=tmp_path, service_secret=SECRET, blob_url=url))


async def test_with_less_free_than_wanted_a_resume_is_refused_before_it_is_written(tmp_path: Path):
    """Databases may be on the same disk: they need the room that is left."""
    async with storage_in(tmp_path, storage_min_free_bytes=2**60) as storage:
        status, problem, _ = await put(storage, b"x" * SHORT)
        assert (status, problem["type"]) == (507, "urn:leads:problem:storage-full")
        assert (storage.kept(), storage.unfinished()) == (set(), set())
