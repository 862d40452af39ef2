"""Housekeeping: blobs that no lead refers to, idempotency keys that are too old, events the audit no longer needs."""

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from services.api import store
from services.api.storage_client import StorageClient
from shared import outbox
from shared.database import Database
from shared.ids import lowest_id
from shared.metrics import BLOBS_SWEPT
from shared.problems import Problem

KEYS_KEPT = timedelta(days=7)
LONGEST_UPLOAD = timedelta(minutes=5)
"""A blob's id is older than the blob by as long as its upload took: a round begins this much before the last one."""

log = structlog.get_logger()


class Sweep:
    """Runs now and then. Whatever it misses today it takes next time."""

    def __init__(self, database: Database, storage: StorageClient, *, grace_seconds: float) -> None:
        self._database = database
        self._storage = storage
        self._grace = timedelta(seconds=grace_seconds)
        self._begin_after = ""

    async def run(self, interval_seconds: float) -> None:
        """Sweep for ever."""
        while True:
            await asyncio.sleep(interval_seconds)
            try:
                await self.sweep_once()
            except Problem as problem:
                log.warning("sweep put off", reason=problem.detail)

    async def sweep_once(self) -> int:
        """One round; returns how many orphan blobs were removed. Raises `Problem` when something is away."""
        now = datetime.now(UTC)
        await self._database.write(partial(store.forget_answers, before=now - KEYS_KEPT))
        await self._database.write(partial(outbox.forget_published, before=now - outbox.EVENTS_KEPT))
        return await self._sweep_blobs(now - self._grace)

    async def _sweep_blobs(self, before: datetime) -> int:
        """A blob is stored before its lead is committed, so only one older than the grace can be an orphan."""
        swept = 0
        after: str | None = self._begin_after
        while after is not None:
            ids, after = await self._storage.list_stored(before, after)
            known = await self._database.read(partial(store.known_paths, paths=ids))
            for blob_id in [one for one in ids if one not in known]:
                await self._storage.discard(blob_id)
                log.info("orphan blob swept", blob_id=blob_id)
                BLOBS_SWEPT.inc()
                swept += 1
        self._begin_after = lowest_id(before - LONGEST_UPLOAD)
        return swept
