"""Resumes from one folder to another, each checked on its way; and all of it made durable at once.

Paths are text here: a `Path` for each of a hundred thousand costs as much as the copies.
"""

import ctypes
import errno
import os
import sys
from hashlib import sha256
from pathlib import Path

from services.cli.backup.manifest import Resume
from services.storage.folder import open_private, remove, write_all

PIECE_BYTES = 1024 * 1024

_NO_LINK = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOENT})
"""Why a file cannot have another name here, or is not there: it is copied instead."""


def copy(resume: Resume, source: str, target: str) -> str | None:
    """Copy the file to `target`, for its owner's eyes only; None, or what is the matter with `source`.

    No file is left at `target` then. Raises `OSError` for any other trouble than that there is no such file.
    """
    try:
        reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return "is missing"
    try:
        writing = open_private(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            hashed = _pour(reading, writing)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    if hashed != resume.sha256:
        remove(target)
        return "has other bytes than were sent"
    return None


def link(resume: Resume, source: str, target: str) -> bool:
    """Give the file at `source` a second name; False when it is not there, or is not whole. Raises `OSError`."""
    try:
        if os.stat(source).st_size != resume.size_bytes:  # noqa: PTH116 - text, as said above
            return False
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def is_whole(resume: Resume, file: str) -> bool:
    """Whether these are the bytes that were sent. Raises `OSError`."""
    try:
        reading = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return _pour(reading, None) == resume.sha256
    finally:
        os.close(reading)


def _pour(reading: int, writing: int | None) -> str:
    """SHA-256, in hex, of what is read, and written if there is somewhere to."""
    digest = sha256()
    while piece := os.read(reading, PIECE_BYTES):
        digest.update(piece)
        if writing is not None:
            write_all(writing, piece)
    return digest.hexdigest()


def sync_all(*folders: Path) -> None:
    """All that was written to the file systems of these folders is on the disk. Raises `OSError`.

    One call for all files: an fsync for each of a hundred thousand takes minutes (syncfs(2): as fsync of every file).
    """
    if sys.platform != "linux":
        os.sync()
        return
    for folder in {folder.stat().st_dev: folder for folder in folders}.values():
        _sync_file_system(folder)


def _sync_file_system(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(folder))
    finally:
        os.close(descriptor)
