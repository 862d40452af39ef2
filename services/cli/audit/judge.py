"""Whether one lead adds up, judged by its record alone: a pure function. `docs/audit.md` says the rules in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from services.cli.audit.findings import Finding, FindingKind
from services.cli.audit.records import Record
from services.notifier.tables import SETTLED, EmailKind, EmailState

FINAL = SETTLED | {EmailState.FAILED}
"""Nothing more comes of it by itself. A failed e-mail has failed visibly, with its reason beside it."""


@dataclass(frozen=True)
class Owed:
    """E-mails that are outstanding though the event was published: its message must be somewhere on the bus."""

    event_id: str | None
    """None when the event is forgotten by its age and left no e-mail that knows it."""
    detail: str
    traced_at: datetime | None
    """When something was last heard of it."""


@dataclass(frozen=True)
class Judgement:
    """What became of a lead. One with neither findings nor anything owed adds up."""

    findings: tuple[Finding, ...] = ()
    owed: Owed | None = None
    in_outbox: bool = False


WHOLE = Judgement()


def judge(record: Record, *, forgotten_before: datetime) -> Judgement:
    """Events published before `forgotten_before` are dropped from the outbox: none is asked of a lead older than it."""
    if record.lead is None:
        return Judgement(tuple(_without_lead(record)))
    findings = (*_resume(record), *_events(record, forgotten_before))
    outstanding = _outstanding(record)
    if not findings and not outstanding:
        return WHOLE
    told = record.events or record.lead.created_at <= forgotten_before
    if not outstanding or not told:
        return Judgement(findings)
    if record.events and all(event.published_at is None for event in record.events):
        return Judgement(findings, in_outbox=True)
    return Judgement(findings, _owed(record, outstanding))


def lost(lead_id: str, owed: Owed, why: str) -> Finding:
    """The finding for a lead whose event is nowhere any more."""
    return Finding(FindingKind.EMAIL_LOST, "lead", lead_id, f"{owed.detail}, and {why}")


def _resume(record: Record) -> Iterator[Finding]:
    lead, blob = record.lead, record.blob
    if lead is None:
        return
    where = f"resumes/{lead.resume_path}"
    if blob is None:
        yield _of_lead(record, FindingKind.RESUME_MISSING, f"its resume is missing ({where})")
    elif blob.size_bytes != lead.resume_size_bytes:
        sizes = f"{blob.size_bytes} bytes instead of {lead.resume_size_bytes}"
        yield _of_lead(record, FindingKind.RESUME_SIZE, f"its resume has {sizes} ({where})")
    elif record.digest is not None and record.digest != lead.resume_sha256:
        yield _of_lead(record, FindingKind.RESUME_CONTENT, f"its resume has other bytes than were sent ({where})")


def _events(record: Record, forgotten_before: datetime) -> Iterator[Finding]:
    count = len(record.events)
    if count > 1:
        yield _of_lead(record, FindingKind.EVENT_REPEATED, f"it has {count} events lead.created")
    if count == 0 and record.lead is not None and record.lead.created_at > forgotten_before:
        e_mails = _outstanding(record) or "both e-mails are settled"
        yield _of_lead(record, FindingKind.EVENT_MISSING, f"it has no event lead.created; {e_mails}")


def _without_lead(record: Record) -> Iterator[Finding]:
    gone = f"its lead {record.lead_id} does not exist"
    for event in record.events:
        yield Finding(FindingKind.EVENT_WITHOUT_LEAD, "event", event.id, gone)
    for email in record.emails:
        yield Finding(FindingKind.EMAIL_WITHOUT_LEAD, "e-mail", email.id, f"{gone} ({email.kind}, {email.state})")


def _outstanding(record: Record) -> str:
    """The e-mails that are not in a final state, in words; nothing when both are."""
    states: dict[EmailKind, str] = dict.fromkeys(EmailKind, "missing")
    for email in record.emails:
        states[email.kind] = "" if email.state in FINAL else email.state
    return ", ".join(f"its {kind} e-mail is {state}" for kind, state in states.items() if state)


def _owed(record: Record, outstanding: str) -> Owed:
    ids = [event.id for event in record.events if event.published_at] or [email.event_id for email in record.emails]
    traces = [event.published_at for event in record.events if event.published_at]
    traces += [email.updated_at for email in record.emails]
    return Owed(ids[0] if ids else None, outstanding, max(traces, default=None))


def _of_lead(record: Record, kind: FindingKind, detail: str) -> Finding:
    return Finding(kind, "lead", record.lead_id, detail)
