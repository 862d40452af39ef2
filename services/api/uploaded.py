"""A resume that lies in the storage already, judged as if it came in by the form: whole, and of its kind by content."""

import asyncio
import hashlib
from collections.abc import Set as AbstractSet
from http import HTTPStatus

import structlog

from services.api.resumes import ResumeKind, inspect, inspector_for, kind_of
from services.api.storage_client import StorageClient
from services.api.storage_puts import StoredBlob
from services.api.store import Resume
from shared.problems import Problem, ProblemType
from shared.tickets import Ticket

JUDGED_WITHIN_SECONDS = 120.0
"""How long the storage may take to hand out a resume for this. `tickets.UNCLAIMED_SECONDS` has room for it."""

READ_BYTES = 128 * 1024
RETRY_AFTER_SECONDS = 5

log = structlog.get_logger()


async def judge_uploaded(storage: StorageClient, ticket: Ticket, kinds: AbstractSet[ResumeKind]) -> Resume:
    """The resume that was sent for this ticket, durably stored.

    Raises `Problem` UPLOAD_UNFINISHED where it has not come yet, 415 and 422 as for a form's file, and UNAVAILABLE.
    """
    kind = kind_of(ticket.filename, kinds)
    try:
        async with asyncio.timeout(JUDGED_WITHIN_SECONDS):
            stored = await storage.receipt(ticket.blob_id)
            if stored is None or stored.size_bytes != ticket.size_bytes:
                raise _unfinished()
            if await _judged(storage, ticket.blob_id, kind) != stored:
                raise _damaged()
    except TimeoutError:
        log.error("the storage takes too long to hand out a resume", blob_id=ticket.blob_id)
        raise _too_slow() from None
    return Resume(ticket.blob_id, ticket.filename, kind.content_type, stored.size_bytes, stored.sha256)


async def _judged(storage: StorageClient, blob_id: str, kind: ResumeKind) -> StoredBlob:
    """Size and hash of what was judged, and found to be of that kind."""
    inspector = inspector_for(kind)
    digest = hashlib.sha256()
    size_bytes = 0
    async with storage.get(blob_id, None) as answer:
        if answer.status != HTTPStatus.OK:
            raise _unfinished()  # swept since its receipt
        async for piece in answer.content.iter_chunked(READ_BYTES):
            await inspect(inspector, piece)
            await asyncio.to_thread(digest.update, piece)
            size_bytes += len(piece)
    inspector.finish()
    return StoredBlob(size_bytes, digest.hexdigest())


def _unfinished() -> Problem:
    detail = "The resume has not arrived whole: ask the upload's address how much has come (HEAD), and send the rest."
    return Problem(ProblemType.UPLOAD_UNFINISHED, detail)


def _damaged() -> Problem:
    log.error("the storage hands out other bytes than it keeps")
    detail = "The resume was damaged on its way. Nothing was kept: please try again."
    return Problem(ProblemType.UNAVAILABLE, detail, retry_after_seconds=RETRY_AFTER_SECONDS)


def _too_slow() -> Problem:
    detail = "The resume cannot be read right now. Nothing was kept: please try again in a moment."
    return Problem(ProblemType.UNAVAILABLE, detail, retry_after_seconds=RETRY_AFTER_SECONDS)
