"""The intake, told as one story: a form comes in, the resume is stored, the lead is kept with its event, 201 goes out.

Nothing is answered before it is durable, and nothing that is refused leaves a trace. The event is on its way by the
relay, whatever the broker does meanwhile.

A big resume may have gone to the storage before, by a ticket (`accept_claim`). Until its lead is kept it is an orphan,
and stays where it is whatever is refused: the ticket may come again, with the fields corrected. The sweep takes it once
the ticket is too old.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from pydantic_core import to_json

from services.api.applicants import Applicant
from services.api.claims import Claim, ticket_refused
from services.api.leads import shown
from services.api.places import Places
from services.api.resumes import ResumeKind
from services.api.search import search_text
from services.api.storage_client import StorageClient
from services.api.storage_puts import StoredBlob
from services.api.store import (
    Duplicate,
    Kept,
    KeyReused,
    NewLead,
    Outcome,
    Replayed,
    Resume,
    ResumeTaken,
    Submission,
)
from services.api.upload import Upload
from services.api.uploaded import judge_uploaded
from shared.database import GroupCommit
from shared.disposition import attachment
from shared.events import Event, LeadCreated, ResumeFacts
from shared.ids import new_id
from shared.metrics import LEADS_ACCEPTED
from shared.problems import Problem, ProblemType
from shared.tickets import is_expired
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
        resume_of: Callable[[str], Awaitable[Resume | None]],
        wake_relay: Callable[[], None],
        concurrency: int,
        kinds: AbstractSet[ResumeKind],
    ) -> None:
        """`is_kept` and `resume_of` say what a lead has of a blob by its id; `kinds` are those that are accepted."""
        self._storage = storage
        self._leads = leads
        self._is_kept = is_kept
        self._resume_of = resume_of
        self._wake_relay = wake_relay
        self._places = Places(concurrency)
        self._kinds = kinds

    async def accept_lead(self, upload: Upload, caller: Caller) -> Accepted:
        """Keep one lead for good. Raises `Problem` for whatever is refused; then nothing is kept."""
        async with self._places.place() as place:
            await upload.start(place)
            blob_id = new_id()
            stored = await self._storage.put(blob_id, upload.resume_chunks(), attachment(upload.filename))
        try:
            _refuse_if_damaged(stored, upload)
            resume = Resume(blob_id, upload.filename, upload.kind.content_type, upload.size_bytes, upload.sha256)
            new = _submission(upload.applicant, resume, caller)
            with step("commit lead and event"):
                outcome = await self._leads.add(new)
        except Exception:
            await self._discard_unless_kept(blob_id)
            raise
        if isinstance(outcome, Kept):
            return self._kept(new)
        await self._storage.discard(blob_id)
        return _answered(outcome)

    async def accept_claim(self, claim: Claim, caller: Caller) -> Accepted:
        """Keep one lead whose resume came by a ticket. Raises `Problem` for whatever is refused.

        A ticket that has made its lead is not looked into again, and need not be good any more: whoever repeats a
        request with its key gets the first answer.
        """
        resume = await self._resume_of(claim.ticket.blob_id)
        if resume is None:
            if is_expired(claim.ticket):
                raise ticket_refused("This ticket has expired: get a new one (POST /leads/uploads).")
            async with self._places.place():
                with step("judge the uploaded resume"):
                    resume = await judge_uploaded(self._storage, claim.ticket, self._kinds)
        new = _submission(claim.applicant, resume, caller, by_ticket=True)
        with step("commit lead and event"):
            outcome = await self._leads.add(new)
        return self._kept(new) if isinstance(outcome, Kept) else _answered(outcome)

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


def _submission(who: Applicant, resume: Resume, caller: Caller, *, by_ticket: bool = False) -> Submission:
    lead = NewLead(
        id=new_id(),
        first_name=who.first_name,
        last_name=who.last_name,
        email=who.email.address,
        email_key=who.email.key,
        search_text=search_text(who.first_name, who.last_name, who.email.address),
        resume_path=resume.blob_id,
        resume_filename=resume.filename,
        resume_content_type=resume.content_type,
        resume_size_bytes=resume.size_bytes,
        resume_sha256=resume.sha256,
        created_at=datetime.now(UTC),
    )
    return Submission(
        lead=lead,
        event=_event(lead, caller),
        answer=to_json(shown(lead)).decode(),
        idempotency_key=caller.idempotency_key,
        fingerprint=_fingerprint(lead) if caller.idempotency_key else "",
        by_ticket=by_ticket,
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


def _refuse_if_damaged(stored: StoredBlob, upload: Upload) -> None:
    if (stored.size_bytes, stored.sha256) == (upload.size_bytes, upload.sha256):
        return
    log.error("the storage keeps other bytes than were received")
    detail = "The resume was damaged on its way. Nothing was kept: please try again."
    raise Problem(ProblemType.UNAVAILABLE, detail, retry_after_seconds=RETRY_AFTER_SECONDS)


def _answered(outcome: Replayed | Duplicate | ResumeTaken | KeyReused) -> Accepted:
    """What was answered before; whatever else is not kept is refused."""
    if isinstance(outcome, Replayed):
        return Accepted(outcome.answer, outcome.lead_id, replayed=True)
    raise _refusal(outcome)


def _refusal(outcome: Duplicate | ResumeTaken | KeyReused) -> Problem:
    if isinstance(outcome, KeyReused):
        detail = "This Idempotency-Key came with another request before. Use a fresh key for each new request."
        return Problem(ProblemType.IDEMPOTENCY_KEY_REUSED, detail)
    if isinstance(outcome, ResumeTaken):
        return Problem(ProblemType.TICKET_USED, "A lead came with this ticket before. Each ticket is for one lead.")
    return Problem(ProblemType.DUPLICATE_EMAIL, "We already have a resume from this e-mail address.")
