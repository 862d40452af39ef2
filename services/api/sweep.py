"""Housekeeping: blobs that no lead refers to, idempotency keys that are too old, events the audit no longer needs."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from sqlalchemy.orm import Session

from services.api import store
from services.api.orphans import why_leads_are_missing
from services.api.storage_client import StorageClient
from shared import outbox
from shared.database import Database
from shared.ids import lowest_id
from shared.metrics import BLOBS_SWEPT
from shared.problems import Problem
from shared.repeats import Repeats
from shared.tickets import UNCLAIMED_SECONDS

KEYS_KEPT = timedelta(days=7)
LONGEST_UPLOAD = timedelta(seconds=UNCLAIMED_SECONDS)
"""A blob's id is older than the blob by as long as its upload took, which may be as long as a ticket is good: a round
begins this much before the last one."""

WATCHED_SECONDS = 60.0
"""How long a blob must be seen without a lead, by a clock that never jumps, before it goes. That is far longer than a
commit may take (`COMMITTED_WITHIN_SECONDS`): a process that was stopped in between is waited for, too."""

WATCHED_MAX = 2000
"""Most blobs that are watched at a time. What is beyond waits for the next round."""

log = structlog.get_logger()


class Sweep:
    """Runs now and then. Whatever it misses today it takes next time."""

    def __init__(
        self,
        database: Database,
        storage: StorageClient,
        *,
        grace_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._storage = storage
        self._grace = timedelta(seconds=grace_seconds)
        self._watched_seconds = min(grace_seconds, WATCHED_SECONDS)
        self._clock = clock
        self._watched: dict[str, float] = {}
        """Since when each of these blobs has been seen without a lead."""
        self._begin_after = ""
        self._noted: str | None = None
        self._repeats = Repeats()

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
        orphans = await self._look(now - self._grace)
        if await self._leads_are_missing(orphans):
            return 0
        try:
            return await self._remove_watched()
        finally:  # not before: on a disk that strangers have filled there is room for a note only after it
            await self._note_newest_lead()

    async def _look(self, before: datetime) -> int:
        """Watch the blobs without a lead that were stored before; returns how many there are.

        A blob is stored before its lead is committed, so a young one may be no orphan. Its age alone does not tell: the
        clock may have jumped, or be another than that of the storage. So it must also have been watched for a while.
        """
        after: str | None = self._begin_after
        beyond = 0
        while after is not None:
            ids, after = await self._storage.list_stored(before, after)
            for blob_id in await self._without_lead(ids):
                if len(self._watched) < WATCHED_MAX:
                    self._watched.setdefault(blob_id, self._clock())
                beyond += blob_id not in self._watched
        if not beyond:
            self._begin_after = lowest_id(before - LONGEST_UPLOAD)
        return len(self._watched) + beyond

    async def _leads_are_missing(self, orphans: int) -> bool:
        newest_lead = await self._storage.newest_lead()
        judge = partial(why_leads_are_missing, orphans=orphans, newest_lead=newest_lead)
        why = await self._database.read(judge)
        if why is None:
            self._repeats.over()
            return False
        if self._repeats.is_news(why):
            log.error(
                "no resume swept: leads seem to be missing",
                reason=why,
                orphans=orphans,
                advice="is LEADS_DATABASE_URL the right database, and not an older copy? See `leads audit`",
            )
        return True

    async def _note_newest_lead(self) -> None:
        newest = await self._database.read(store.newest_lead_id)
        if newest is not None and newest != self._noted:
            await self._storage.note_newest_lead(newest)
            self._noted = newest

    async def _remove_watched(self) -> int:
        until = self._clock() - self._watched_seconds
        due = [blob_id for blob_id, since in self._watched.items() if since <= until]
        orphans = await self._without_lead(due, find=store.known_paths_for_good) if due else []
        for blob_id in set(due).difference(orphans):
            del self._watched[blob_id]
        for blob_id in orphans:
            await self._storage.remove(blob_id)
            del self._watched[blob_id]
            log.info("orphan blob swept", blob_id=blob_id)
            BLOBS_SWEPT.inc()
        return len(orphans)

    async def _without_lead(
        self, blob_ids: Sequence[str], find: Callable[[Session, Sequence[str]], set[str]] = store.known_paths
    ) -> list[str]:
        known = await self._database.read(lambda session: find(session, blob_ids))
        return [blob_id for blob_id in blob_ids if blob_id not in known]
