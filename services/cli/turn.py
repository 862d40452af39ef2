"""Turns between processes: a lock that goes with its process, however that ends."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

INIT_LOCK = ".init.lock"
"""In the data folder: held by whoever makes what is in it."""

TURN_POLL_SECONDS = 0.05


@asynccontextmanager
async def turn(path: Path) -> AsyncIterator[None]:
    """One process at a time; who comes later waits. Raises `OSError` when there can be no file at `path`."""
    descriptor = open_lock(path)
    try:
        while not locked(descriptor):  # noqa: ASYNC110 - another process cannot set an Event of this one
            await asyncio.sleep(TURN_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


def open_lock(path: Path) -> int:
    """The descriptor of the lock's file: closing it gives the lock back. Raises `OSError`."""
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


def locked(descriptor: int) -> bool:
    """Take the lock, unless another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
