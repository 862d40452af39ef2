"""The intake, told as one story: a form comes in, the resume is stored, the lead is kept with its event, 201 goes out.

Nothing is answered before it is durable, and nothing that is refused leaves a trace. The event is on its way by the
relay, whatever the broker does meanwhile.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from services.api.downloads import attachment
from services.api.leads import LeadView
from services.api.places import Places
from services.api.search import search_text
from services.api.storage_client import StorageClient
from services.api.store import Duplicate, Kept, KeyReused, NewLead, Outcome, Replayed, Submission
from services.api.upload import Upload
from shared.database import GroupCommit
from shared.events import Event, LeadCreated, ResumeFacts
from shared.ids import new_id
from shared.metrics import LEADS_ACCEPTED
from shared.problems import Problem, ProblemType
from shared.tracing.spans import step

RETRY_AFTER_SECONDS = 5

log = structlog.get_logger()


@dataclass(frozen=True)
class Caller:
    """What comes with the form: how to recognise a repetition, and the trace it belongs to."""

    idempotency_key: str | None
    correlation_id: str | None
    traceparent: str | None


@dataclass(frozen=True)
class Accepted:
    """The 201 to be sent: body and id of the lead, and whether it was said before."""

    answer: str
    lead_id: str
    replayed: bool


class Intake:
    """Accepts leads. At most `concurrency` uploads move at a time."""

    def __init__(
        self,
        storage: StorageClient,
        leads: GroupCommit[Submission, Outcome],
        *,
        is_kept: Callable[[str], Awaitable[bool]],
        wake_relay: Callable[[], None],
        concurrency: int,
    ) -> None:
        self._storage = storage
        self._leads = leads
        self._is_kept = is_kept
        self._wake_relay = wake_relay
        self._places = Places(concurrency)

    async def accept_lead(self, upload: Upload, caller: Caller) -> Accepted:
        """Keep one lead for good. Raises `Problem` for whatever is refused; then nothing is kept."""
        async with self._places.place() as place:
            await upload.start(place)
            blob_id = new_id()
            stored = await self._storage.put(blob_id, upload.resume_chunks(), attachment(upload.filename))
        try:
            if (stored.size_bytes, stored.sha256) != (upload.size_bytes, upload.sha256):
                raise _damaged_on_the_way()
            new = _submission(upload, blob_id, caller)
            with step("commit lead and event"):
                outcome = await self._leads.add(new)
        except Problem:
            await self._discard_unless_kept(blob_id)
            raise
        if isinstance(outcome, Kept):
            return self._kept(new)
        await self._storage.discard(blob_id)
        if isinstance(outcome, Replayed):
            return Accepted(outcome.answer, outcome.lead_id, replayed=True)
        raise _refusal(outcome)

    async def _discard_unless_kept(self, blob_id: str) -> None:
        """A commit that failed may have happened all the same: only a look tells. In doubt the sweep decides."""
        try:
            kept = await self._is_kept(blob_id)
        except Problem:
            return
        if not kept:
            await self._storage.discard(blob_id)

    def _kept(self, new: Submission) -> Accepted:
        self._wake_relay()
        LEADS_ACCEPTED.inc()
        return Accepted(new.answer, new.lead.id, replayed=False)


def _submission(upload: Upload, blob_id: str, caller: Caller) -> Submission:
    who = upload.applicant
    lead = NewLead(
        id=new_id(),
        first_name=who.first_name,
        last_name=who.last_name,
        email=who.email.address,
        email_key=who.email.key,
        search_text=search_text(who.first_name, who.last_name, who.email.address),
        resume_path=blob_id,
        resume_filename=upload.filename,
        resume_content_type=upload.kind.content_type,
        resume_size_bytes=upload.size_bytes,
        resume_sha256=upload.sha256,
        created_at=datetime.now(UTC),
    )
    return Submission(
        lead=lead,
        event=_event(lead, caller),
        answer=LeadView.of(lead).model_dump_json(),
        idempotency_key=caller.idempotency_key,
        fingerprint=_fingerprint(lead) if caller.idempotency_key else "",
    )


def _event(lead: NewLead, caller: Caller) -> Event:
    created = LeadCreated(
        lead_id=lead.id,
        first_name=lead.first_name,
        last_name=lead.last_name,
        email=lead.email,
        resume=ResumeFacts(
            filename=lead.resume_filename,
            content_type=lead.resume_content_type,
            size_bytes=lead.resume_size_bytes,
            sha256=lead.resume_sha256,
        ),
        created_at=lead.created_at,
    )
    return Event.of(created, subject=lead.id, correlation_id=caller.correlation_id, traceparent=caller.traceparent)


def _fingerprint(lead: NewLead) -> str:
    same = [lead.first_name, lead.last_name, lead.email, lead.resume_filename, lead.resume_sha256]
    return hashlib.sha256(json.dumps(same).encode()).hexdigest()


def _damaged_on_the_way() -> Problem:
    log.error("the storage keeps other bytes than were received")
    detail = "The resume was damaged on its way. Nothing was kept: please try again."
    return Problem(ProblemType.UNAVAILABLE, detail, retry_after_seconds=RETRY_AFTER_SECONDS)


def _refusal(outcome: Duplicate | KeyReused) -> Problem:
    if isinstance(outcome, KeyReused):
        detail = "This Idempotency-Key came with another request before. Use a fresh key for each new request."
        return Problem(ProblemType.IDEMPOTENCY_KEY_REUSED, detail)
    return Problem(ProblemType.DUPLICATE_EMAIL, "We already have a resume from this e-mail address.")
