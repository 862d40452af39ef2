"""Folders that resumes lie in, for good or until they are whole: made ready, tried out, names made durable."""

import asyncio
import contextlib
import errno
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import file_digest
from pathlib import Path
from uuid import uuid4

import structlog

from services.storage.blobs import StorageBroken, StorageFull, StoreUnfit
from shared.ids import new_id
from shared.problems import Problem
from shared.settings import SettingsError

INCOMING = ".incoming"
"""Where a body is until all of it is safe. In the folder of the blobs, both are sure to be on one file system."""

NEWEST_LEAD = ".newest-lead"
"""The id of the newest lead that the api's database had a while ago: one without it is not that of these blobs."""

MIB = 1024 * 1024

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_PART = re.compile(r"[0-9a-f-]{36}\.([0-9]{1,12})\.[0-9a-f]{32}")
_BOOT = Path("/proc/sys/kernel/random/boot_id")

log = structlog.get_logger()


class FolderSync:
    """Makes changes of the folder's names durable. One fsync runs at a time and serves all who came before it began.

    A caller changes a name first and waits here then, so the fsync that covers it starts after the change. One that
    is already running may have missed it and does not count.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="folder-sync")
        self._waiting: list[asyncio.Future[None]] = []
        self._syncing: asyncio.Task[None] | None = None

    async def wait(self) -> None:
        """Return when every change made before this call is on the disk. Raises `OSError`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.create_task(self._sync_groups())
        await future

    def close(self) -> None:
        """Wait for the fsync under way."""
        self._thread.shutdown()

    async def _sync_groups(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                await loop.run_in_executor(self._thread, sync_folder, self._folder)
            except Exception as error:  # noqa: BLE001 - handed to the callers, who wait for nothing else
                _settle(group, error)
            else:
                _settle(group, None)


def _settle(group: Sequence["asyncio.Future[None]"], error: Exception | None) -> None:
    for future in group:
        if future.done():
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def prepare_folder(folder: Path, *, setting: str, links: bool = True) -> None:
    """Make the folder, durably, let only its owner in, and try it out, with hard links if they are needed there.

    Raises `SettingsError` that names `setting`.
    """
    try:
        made = [level for level in (folder, *folder.parents) if not level.exists()]
        folder.parent.mkdir(parents=True, exist_ok=True)
        for private in (folder, folder / INCOMING):
            private.mkdir(mode=0o700, exist_ok=True)
            private.chmod(0o700)
        for changed in (folder, *(level.parent for level in made)):
            sync_folder(changed)
        _try_out(folder, links=links)
    except OSError as error:
        raise SettingsError(f"{setting}: {folder} cannot be used ({error.strerror}).") from None


def check_folder(folder: Path, min_free_bytes: int, *, links: bool = True) -> None:
    """Raises `StoreUnfit` when the folder cannot be written to, or nearly nothing more fits."""
    try:
        _try_out(folder, links=links)
        too_full = shortage(folder, min_free_bytes)
    except OSError as error:
        raise StoreUnfit(f"the folder of the resumes cannot be used ({error.strerror})") from error
    if too_full:
        raise StoreUnfit(too_full)


def shortage(folder: Path, min_free_bytes: int) -> str | None:
    """What to say when less is free than wanted. Raises `OSError`."""
    disk = os.statvfs(folder)
    free_bytes = disk.f_bavail * disk.f_frsize
    if free_bytes >= min_free_bytes:
        return None
    return f"only {free_bytes // MIB} MiB are free for resumes, {min_free_bytes // MIB} are wanted"


def leave_enough_free(folder: Path, min_free_bytes: int) -> None:
    """Refuse before anything is written: databases may live on the same disk, and need room to go on.

    Raises `StorageFull`, and `OSError`.
    """
    too_full = shortage(folder, min_free_bytes)
    if too_full:
        log.error("resume not stored", reason=f"LEADS_STORAGE_MIN_FREE_BYTES: {too_full}")
        raise StorageFull


def refusal(event: str, error: OSError, **about: str | None) -> Problem:
    """What the caller is told of a disk's fault; what happened is told to ops."""
    log.error(event, reason=error.strerror or str(error), errno=error.errno, **about)
    return StorageFull() if error.errno in _FULL else StorageBroken()


def part_name(blob_id: str, expires_at_seconds: int) -> str:
    """How a body that comes in several requests is called in `INCOMING`.

    Until when it may go on stands in it, and which run of which machine writes it: what reached the disk of another
    nobody knows.
    """
    return f"{blob_id}.{expires_at_seconds}.{_boot_id()}"


@cache
def _boot_id() -> str:
    """Of this run of this machine; where it has none, of this process."""
    try:
        return _BOOT.read_text().strip().replace("-", "")
    except OSError:
        return uuid4().hex


def part_expires_at(name: str) -> int | None:
    """Until when (seconds since 1970) the body of that name may go on; None for one that comes at once."""
    found = _PART.fullmatch(name)
    return int(found[1]) if found else None


def note_newest_lead(folder: Path, lead_id: str) -> None:
    """Keep the id durably. Raises `OSError`."""
    temp = f"{folder}/{INCOMING}/note-{new_id()}"
    with new_file(temp) as descriptor:
        write_all(descriptor, lead_id.encode())
        os.fsync(descriptor)
        os.replace(temp, folder / NEWEST_LEAD)  # noqa: PTH105 - beside the fsyncs that it belongs with
    sync_folder(folder)


def newest_lead(folder: Path) -> str | None:
    """The id that was noted last. Raises `OSError`."""
    with contextlib.suppress(FileNotFoundError):
        return (folder / NEWEST_LEAD).read_text() or None
    return None


def _try_out(folder: Path, *, links: bool) -> None:
    """What an upload does, in small: not every file system has hard links, and a full one still makes empty files."""
    probe = f"{folder}/{INCOMING}/probe-{new_id()}"
    with new_file(probe) as descriptor:
        write_all(descriptor, b"writable")
        if links:
            os.link(probe, f"{probe}-linked")
            remove(f"{probe}-linked")


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: fsync of a file does not do that for its name (fsync(2), NOTES)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_or_remove(path: str) -> None:
    """Make the bytes of a file durable. Raises `OSError`, with the file gone if they could not be written.

    The kernel tells of that once: another fsync would succeed without them, and a read might give others.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError:
        remove(path)
        raise
    finally:
        os.close(descriptor)


def sha256_of(path: str) -> str:
    """Of the file's bytes, in hex. Raises `OSError`."""
    with Path(path).open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def new_file(path: str) -> Iterator[int]:
    """A new file, open for writing and gone afterwards: what is to be kept has another name by then."""
    descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        remove(path)


def open_private(path: str, flags: int) -> int:
    """An opener for `open`: what it makes is for its owner's eyes only."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def write_all(descriptor: int, body: bytes | bytearray | memoryview) -> None:
    """All of it: `write` may take a part, as it does just before the disk is full."""
    left = memoryview(body)
    while left:
        left = left[os.write(descriptor, left) :]


def remove(path: str) -> None:
    """Gone, whether or not it was there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - on the hot path, where a `Path` costs as much as the call
