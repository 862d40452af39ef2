"""Blobs in a folder, looked at: functions that wait for the disk, for threads to run."""

import errno
import heapq
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from services.storage.blobs import BlobCutShort, BlobFacts, BlobMissing, BlobPage
from services.storage.bodies import PIECE_BYTES
from shared.ids import is_id

_NO_FILES = frozenset({errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO})
"""What opening nothing, a link, a folder or a socket comes to: no blob."""


def look_into(folder: Path, blob_id: str) -> tuple[BlobFacts, bytes | None]:
    """What is known of the blob, and its body if it is short. Raises `OSError`, `BlobMissing`, `BlobCutShort`."""
    try:
        with open(f"{folder}/{blob_id}", "rb", buffering=0, opener=_open_file) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BlobMissing
            if status.st_size > PIECE_BYTES:
                return facts_of(blob_id, status), None
            body = file.readall()
    except OSError as error:
        if error.errno in _NO_FILES:
            raise BlobMissing from None
        raise
    if len(body) < status.st_size:
        raise cut_short(blob_id, len(body), status.st_size)
    return facts_of(blob_id, status), body


def _open_file(path: str, flags: int) -> int:
    """Follows no link, and waits for nobody at a pipe."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def cut_short(blob_id: str, end: int, stop: int) -> BlobCutShort:
    """What is raised of a blob that ends there, and should at `stop`."""
    return BlobCutShort(f"{blob_id} ends at byte {end}, {stop - end} too early")


def page_of(folder: Path, stored_before: datetime, *, after: str, limit: int) -> BlobPage:
    """Holds `limit` names however many there are, and asks only about those."""
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries if entry.name > after and is_id(entry.name))
        first = heapq.nsmallest(limit + 1, names)
    found = (look(folder, name) for name in first[:limit])
    blobs = tuple(blob for blob in found if blob is not None and blob.stored_at < stored_before)
    return BlobPage(blobs, first[limit - 1] if len(first) > limit else None)


def look(folder: Path, name: str) -> BlobFacts | None:
    """What is known of the blob of that name in `folder`; None when there is none. Raises `OSError`."""
    try:
        status = (folder / name).lstat()
    except FileNotFoundError:
        return None
    return facts_of(name, status) if stat.S_ISREG(status.st_mode) else None


def facts_of(blob_id: str, status: os.stat_result) -> BlobFacts:
    """What a file's status says of the blob in it."""
    return BlobFacts(blob_id, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
