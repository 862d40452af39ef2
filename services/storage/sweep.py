"""Removes what never became a blob: bodies whose upload, or whose process, ended half-way.

A body that comes in several requests is waited for as long as its ticket is good, however long nobody writes to it.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from services.storage.folder import part_expires_at
from shared.metrics import BLOBS_SWEPT
from shared.tokens import LEEWAY_SECONDS

SWEEP_EVERY_SECONDS = 30.0

log = structlog.get_logger()


async def keep_swept(sweep_once: Callable[[], Awaitable[int]]) -> None:
    """Sweep now and every 30 s until cancelled. A sweep that fails is logged, and the next one tries again."""
    while True:
        try:
            removed = await sweep_once()
        except Exception as error:  # noqa: BLE001 - a folder's errors and those of each bucket
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error).partition("\n")[0]
            log.error("unfinished resumes not swept", reason=reason or type(error).__name__)
        else:
            _tell(removed)
        await asyncio.sleep(SWEEP_EVERY_SECONDS)


async def sweep(incoming: Path, *, arriving: Callable[[], frozenset[str]], grace_seconds: float) -> int:
    """Remove the files that nobody has written to, or may write to, for `grace_seconds`; how many. Raises `OSError`.

    Those that are `arriving` here are never touched, however slow their sender is. One that begins to arrive after
    this question is younger than the grace.
    """
    return await asyncio.to_thread(_remove_old, incoming, arriving(), time.time() - grace_seconds)


def _tell(removed: int) -> None:
    if removed:
        BLOBS_SWEPT.inc(removed)
        log.info("unfinished resumes swept", count=removed)


def _remove_old(incoming: Path, arriving: frozenset[str], before: float) -> int:
    removed = 0
    with os.scandir(incoming) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.name not in arriving and _is_due(entry, before):
                    Path(entry).unlink()
                    removed += 1
    return removed


def _is_due(entry: "os.DirEntry[str]", before: float) -> bool:
    if not entry.is_file(follow_symlinks=False):
        return False
    expires_at = part_expires_at(entry.name)
    if expires_at is not None:
        return expires_at + LEEWAY_SECONDS <= before
    return entry.stat(follow_symlinks=False).st_mtime <= before
