"""Reads the resumes of new leads, one after the other, while nothing waits for it.

No api ends for a resume: whatever is wrong with one, it is a lead as any, and the next one is read.
"""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus

import structlog

from services.api.resume_search import index
from services.api.resume_search.index import Reading, ReadOutcome, Unread
from services.api.resume_search.reader import KINDS, ReaderDied, ResumeReader
from services.api.resumes import ResumeKind
from services.api.storage_client import StorageClient
from shared.database import Database
from shared.ids import lowest_id
from shared.metrics import RESUMES_READ
from shared.problems import Problem
from shared.repeats import Repeats

AT_ONCE = 20
"""Leads that are looked up together."""

REST_SECONDS = 2.0
"""How often new leads are looked for, and how long what is away is left alone."""

LATEST_COMMIT = timedelta(minutes=2)
"""A lead's id is made before it is committed: so far back one may still turn up among those that were looked at."""

LOOK_AT_ALL_SECONDS = 600.0
"""How often all leads are looked at: for what was passed over, and since an api whose clock is late makes old ids."""

TRIES = 3
"""So often, at different times, the reader may die over a resume: then it is the resume. In between it is let be."""

BIGGEST_BYTES = 20 * 1024 * 1024
"""What is held here for a while."""

DOWNLOADED_WITHIN_SECONDS = 60.0

_KINDS = {kind.content_type: kind for kind in ResumeKind}

log = structlog.get_logger()


class ResumeReading:
    """Runs for as long as the api does. What it missed yesterday it reads today: the index says what is there."""

    def __init__(self, database: Database, storage: StorageClient, reader: ResumeReader) -> None:
        self._database = database
        self._storage = storage
        self._reader = reader
        self._after = ""
        self._looked_at_all_at = time.monotonic()
        self._deaths: Counter[str] = Counter()
        self._let_be_until: dict[str, float] = {}
        self._repeats = Repeats()

    async def run(self) -> None:
        """Read for ever."""
        try:
            while True:
                if not await self._went_on():
                    await asyncio.sleep(REST_SECONDS)
        finally:
            await self._reader.close()

    async def read_some(self) -> int:
        """Read the next few; how many were looked at. Raises whatever is in the way of all."""
        looked_at = datetime.now(UTC)
        found = await self._database.read(partial(index.unread, after=self._after, limit=AT_ONCE))
        for one in found:
            if self._let_be_until.get(one.lead_id, 0.0) <= time.monotonic():
                await self._read_and_write_down(one)
            self._after = one.lead_id
        if len(found) < AT_ONCE:
            self._after = self._begin_again(looked_at)
        return len(found)

    def _begin_again(self, looked_at: datetime) -> str:
        """The id behind which to look next, when all were read at that time."""
        if time.monotonic() - self._looked_at_all_at < LOOK_AT_ALL_SECONDS:
            return lowest_id(looked_at - LATEST_COMMIT)
        self._looked_at_all_at = time.monotonic()
        return ""

    async def _went_on(self) -> bool:
        """Whether there may be more to read. What is in the way is told, and tried again."""
        try:
            return await self.read_some() == AT_ONCE
        except Exception as error:  # noqa: BLE001 - an api does not end for its search
            reason = error.detail if isinstance(error, Problem) else f"{type(error).__name__}: {error}"
            if self._repeats.is_news(reason):
                log.warning("resumes not read", reason=reason)
            return False

    async def _read_and_write_down(self, one: Unread) -> None:
        reading = await self._read(one)
        if reading is None:
            self._let_be_until[one.lead_id] = time.monotonic() + LOOK_AT_ALL_SECONDS / 2
            return
        await self._database.write(partial(index.add, reading=reading))
        self._let_be_until.pop(one.lead_id, None)
        RESUMES_READ.labels(reading.outcome).inc()

    async def _read(self, one: Unread) -> Reading | None:
        """What was read; None where it is passed over this time. Raises `Problem` where the storage is away."""
        kind = _KINDS.get(one.content_type)
        if kind not in KINDS or one.size_bytes > BIGGEST_BYTES:
            return Reading(one.lead_id, one.created_at, ReadOutcome.UNREADABLE)
        body = await self._download(one)
        if body is None:
            return None
        try:
            words = await self._reader.words_of(kind, body)
        except ReaderDied:
            self._deaths[one.lead_id] += 1
            if self._deaths[one.lead_id] < TRIES:
                return None
            words = None
        del self._deaths[one.lead_id]
        if words is None:
            return Reading(one.lead_id, one.created_at, ReadOutcome.UNREADABLE)
        return Reading(one.lead_id, one.created_at, ReadOutcome.READ if words else ReadOutcome.EMPTY, words)

    async def _download(self, one: Unread) -> bytes | None:
        """The resume; None where the storage is well and does not give this one."""
        try:
            async with asyncio.timeout(DOWNLOADED_WITHIN_SECONDS), self._storage.get(one.blob_id, None) as answer:
                return await answer.read() if answer.status == HTTPStatus.OK else None
        except (Problem, TimeoutError):
            await self._storage.check()
            return None
