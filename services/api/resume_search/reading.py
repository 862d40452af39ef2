"""Reads the resumes of new leads, one after the other, while nothing waits for it."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus

import structlog

from services.api.resume_search import index, texts
from services.api.resume_search.index import Reading, ReadOutcome, Unread
from services.api.resume_search.reader import ReaderBroken, ResumeReader
from services.api.resumes import ResumeKind
from services.api.storage_client import StorageClient
from shared.database import Database
from shared.ids import lowest_id
from shared.metrics import RESUMES_READ
from shared.problems import Problem
from shared.repeats import Repeats

AT_ONCE = 20
"""Resumes that are written down together."""

REST_SECONDS = 2.0
"""How often new leads are looked for."""

LATEST_COMMIT = timedelta(minutes=2)
"""A lead's id is made before it is committed: so far back one may still turn up among those that were looked at."""

LOOK_AT_ALL_SECONDS = 3600.0
"""How often all leads are looked at: an api whose clock is late makes ids of yesterday."""

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
        """Read the next few; how many. Raises `Problem` where storage or database are away, and `ReaderBroken`."""
        looked_at = datetime.now(UTC)
        found = await self._database.read(partial(index.unread, after=self._after, limit=AT_ONCE))
        readings = [await self._read(one) for one in found]
        if readings:
            await self._database.write(partial(index.add, readings=readings))
        for one in readings:
            RESUMES_READ.labels(one.outcome).inc()
        self._after = found[-1].lead_id if len(found) == AT_ONCE else self._begin_again(looked_at)
        return len(readings)

    def _begin_again(self, looked_at: datetime) -> str:
        """The id behind which to look next, when all were read at that time."""
        if time.monotonic() - self._looked_at_all_at < LOOK_AT_ALL_SECONDS:
            return lowest_id(looked_at - LATEST_COMMIT)
        self._looked_at_all_at = time.monotonic()
        return ""

    async def _went_on(self) -> bool:
        """Whether there was something to read, and it was read. What is in the way is told, and tried again."""
        try:
            some = await self.read_some()
        except (Problem, ReaderBroken, TimeoutError) as error:
            reason = (error.detail if isinstance(error, Problem) else str(error)) or "the storage is too slow"
            if self._repeats.is_news(reason):
                log.warning("resumes not read", reason=reason)
            return False
        self._repeats.over()
        return some > 0

    async def _read(self, one: Unread) -> Reading:
        kind = _KINDS.get(one.content_type)
        if kind not in texts.KINDS:
            return Reading(one.lead_id, ReadOutcome.UNREADABLE)
        async with asyncio.timeout(DOWNLOADED_WITHIN_SECONDS), self._storage.get(one.blob_id, None) as answer:
            if answer.status == HTTPStatus.NOT_FOUND:
                return Reading(one.lead_id, ReadOutcome.MISSING)
            body = await answer.read()
        words = await self._reader.words_of(kind, body)
        if words is None:
            return Reading(one.lead_id, ReadOutcome.UNREADABLE)
        return Reading(one.lead_id, ReadOutcome.READ if words else ReadOutcome.EMPTY, words)
