"""Resumes from one folder to another, each checked on its way; and all of it made durable at once.

Paths are text here: a `Path` for each of a hundred thousand costs as much as the copies.
"""

import ctypes
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from services.cli.backup.manifest import Resume
from services.storage.folder import open_private, remove, write_all

PIECE_BYTES = 1024 * 1024

_NO_LINK = frozenset({errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.ENOENT})
"""Why a file cannot have another name here, or is not there: it is copied instead."""


class _UnreadableError(Exception):
    """The message is what is the matter with a file that was to be read."""


def copy(resume: Resume, source: str, target: str) -> str | None:
    """Copy the file to `target`, for its owner's eyes only; None, or what is the matter with `source`.

    No file is left at `target` then. Raises `OSError` for trouble with `target`: the next file would meet it, too.
    """
    try:
        with _opened(source) as reading:
            writing = open_private(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            try:
                hashed = _pour(reading, writing)
            finally:
                os.close(writing)
    except _UnreadableError as error:
        remove(target)
        return str(error)
    if hashed != resume.sha256:
        remove(target)
        return "has other bytes than were sent"
    return None


def link(resume: Resume, source: str, target: str) -> bool:
    """Give the file at `source` a second name; False when it is not there, or is not whole. Raises `OSError`.

    All of it is read: a byte that decayed in one backup would be in every later one otherwise.
    """
    if not is_whole(resume, source):
        return False
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def is_whole(resume: Resume, file: str) -> bool:
    """Whether these are the bytes that were sent. They are not where they cannot be read."""
    try:
        with _opened(file) as reading:
            return _pour(reading, None) == resume.sha256
    except _UnreadableError:
        return False


@contextmanager
def _opened(file: str) -> Iterator[int]:
    """Raises `_UnreadableError`."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise _UnreadableError("is missing") from error
    except OSError as error:
        raise _unreadable(error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _pour(reading: int, writing: int | None) -> str:
    """SHA-256, in hex, of what is read, and written if there is somewhere to.

    Raises `_UnreadableError`, and `OSError` only for what is written.
    """
    digest = sha256()
    while piece := _read(reading):
        digest.update(piece)
        if writing is not None:
            write_all(writing, piece)
    return digest.hexdigest()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, PIECE_BYTES)
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> _UnreadableError:
    return _UnreadableError(f"cannot be read ({error.strerror})")


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
