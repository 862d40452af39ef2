"""Whether the one promise was kept: what clients were told, against everything that is found afterwards.

A pure function over collected facts; it starts, asks and reads nothing. How facts come about stands in `collect.py`.
An answer of 201 binds us to all of a lead. No answer binds us to nothing but honesty: kept whole, or clean, never half.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

KINDS = ("prospect", "staff")


class Verdict(StrEnum):
    """What is wrong, in one word. `REPEATED` is the one that is allowed."""

    LOST = "lost"
    """Something that was promised is gone: a lead, its bytes, its event, an e-mail."""
    DUPLICATED = "duplicated"
    """Something is there twice, and nothing says why."""
    PHANTOM = "phantom"
    """Something is there that nobody asked for, or half of something that was never promised."""
    STUCK = "stuck"
    """Something is on its way and does not arrive."""
    ORPHAN = "orphan"
    """A blob that no lead refers to."""
    REPEATED = "repeated"
    """An e-mail was sent again because a process died before it knew of the answer: written down, and by design."""


@dataclass(frozen=True)
class Attempt:
    """One request of a client, as its own ledger has it. `status` is None when there was no answer."""

    email: str
    sha256: str
    status: int | None
    lead_id: str | None
    at: float
    is_replay: bool = False
    """Whether the answer had been made before: an earlier attempt was kept, and its answer did not arrive."""


@dataclass(frozen=True)
class LeadRow:
    """A lead in the api's database."""

    id: str
    email: str
    resume_path: str
    sha256: str


@dataclass(frozen=True)
class EventRow:
    """An event in the api's outbox."""

    id: str
    lead_id: str
    is_published: bool


@dataclass(frozen=True)
class EmailRow:
    """An e-mail in the notifier's database. `attempts` counts the requests that may have left."""

    id: str
    lead_id: str
    kind: str
    state: str
    attempts: int


@dataclass(frozen=True)
class Arrived:
    """An e-mail that came to its reader."""

    email_id: str
    lead_id: str
    kind: str
    to: tuple[str, ...]


@dataclass(frozen=True)
class Facts:
    """Everything that was found once the system had its time to come to rest."""

    attempts: tuple[Attempt, ...]
    leads: tuple[LeadRow, ...]
    blobs: Mapping[str, str]
    """SHA-256 of the stored bytes by blob id."""
    events: tuple[EventRow, ...]
    emails: tuple[EmailRow, ...]
    mails: tuple[Arrived, ...]
    waiting: int
    """Messages in the queue, in hand and in the retry levels."""
    dead: int


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    verdict: Verdict
    what: str


def check(facts: Facts) -> list[Finding]:
    """Everything that is wrong; nothing but `REPEATED` when the promise was kept."""
    return [
        *_answers(facts),
        *_leads(facts),
        *_events(facts),
        *_emails(facts),
        *_mails(facts),
        *_blobs(facts),
        *_queue(facts),
    ]


def table(facts: Facts, findings: Iterable[Finding]) -> str:
    """The verdict as people read it."""
    by_verdict: dict[Verdict, list[str]] = {verdict: [] for verdict in Verdict}
    for finding in findings:
        by_verdict[finding.verdict].append(finding.what)
    answers = Counter("no answer" if attempt.status is None else str(attempt.status) for attempt in facts.attempts)
    said = ", ".join(f"{answer}: {count}" for answer, count in sorted(answers.items()))
    lines = [
        f"{len(facts.attempts)} attempts ({said})",
        f"{len(facts.leads)} leads, {len(facts.blobs)} blobs, {len(facts.events)} events, {len(facts.mails)} mails",
        *(f"  {verdict:<11}{len(whats):>5}  {'; '.join(whats[:3])}" for verdict, whats in by_verdict.items()),
    ]
    return "\n".join(lines)


def _answers(facts: Facts) -> Iterator[Finding]:
    """What a 201 named must be there, and no other lead of that address; what was only refused must not."""
    rows = {lead.id: lead for lead in facts.leads}
    there = {lead.email for lead in facts.leads}
    named: dict[str, set[str]] = {}
    answers: dict[str, set[int | None]] = {}
    for attempt in facts.attempts:
        answers.setdefault(attempt.email, set()).add(attempt.status)
        if attempt.status == 201:
            named.setdefault(attempt.email, set()).add(attempt.lead_id or "")
    for email, statuses in answers.items():
        if not statuses & {201, None} and email in there:
            yield Finding(Verdict.PHANTOM, f"the lead of {email} was refused and is there")
    for email, ids in named.items():
        if len(ids) > 1:
            yield Finding(Verdict.DUPLICATED, f"{email} was answered with {len(ids)} different leads")
        for lead_id in ids:
            if lead_id not in rows or rows[lead_id].email != email:
                yield Finding(Verdict.LOST, f"the lead of {email} was answered with 201 and is not there")


def _leads(facts: Facts) -> Iterator[Finding]:
    """Every lead that is there is there whole, whether or not its answer arrived."""
    sent = {attempt.email: attempt.sha256 for attempt in facts.attempts}
    told = Counter(event.lead_id for event in facts.events)
    for email, count in Counter(lead.email for lead in facts.leads).items():
        if count > 1:
            yield Finding(Verdict.DUPLICATED, f"{email} has {count} leads")
    for lead in facts.leads:
        if lead.email not in sent:
            yield Finding(Verdict.PHANTOM, f"nobody sent the lead of {lead.email}")
            continue
        if lead.resume_path not in facts.blobs:
            yield Finding(Verdict.LOST, f"the resume of {lead.email} is not there")
        elif not facts.blobs[lead.resume_path] == lead.sha256 == sent[lead.email]:
            yield Finding(Verdict.LOST, f"the resume of {lead.email} has other bytes than were sent")
        if told[lead.id] == 0:
            yield Finding(Verdict.LOST, f"the lead of {lead.email} has no event")


def _events(facts: Facts) -> Iterator[Finding]:
    ids = {lead.id for lead in facts.leads}
    for lead_id, count in Counter(event.lead_id for event in facts.events).items():
        if lead_id not in ids:
            yield Finding(Verdict.PHANTOM, f"an event tells of the lead {lead_id}, which is not there")
        if count > 1:
            yield Finding(Verdict.DUPLICATED, f"the lead {lead_id} has {count} events")
    for event in facts.events:
        if not event.is_published:
            yield Finding(Verdict.STUCK, f"the event of the lead {event.lead_id} was not published")


def _emails(facts: Facts) -> Iterator[Finding]:
    """Each published event has its two e-mails, each settled."""
    ids = {lead.id for lead in facts.leads}
    planned = Counter((email.lead_id, email.kind) for email in facts.emails)
    for (lead_id, kind), count in planned.items():
        if lead_id not in ids:
            yield Finding(Verdict.PHANTOM, f"the {kind} e-mail of the lead {lead_id}, which is not there")
        if count > 1:
            yield Finding(Verdict.DUPLICATED, f"the lead {lead_id} has {count} {kind} e-mails")
    for email in facts.emails:
        if email.state != "sent":
            yield Finding(Verdict.STUCK, f"the {email.kind} e-mail of the lead {email.lead_id} is {email.state}")
    left = Verdict.STUCK if facts.waiting or facts.dead else Verdict.LOST
    for event in facts.events:
        for kind in KINDS:
            if event.is_published and planned[event.lead_id, kind] == 0:
                yield Finding(left, f"the {kind} e-mail of the lead {event.lead_id} was never begun")


def _mails(facts: Facts) -> Iterator[Finding]:
    """What is said to be sent arrived, once, and at the right reader."""
    rows = {email.id: email for email in facts.emails}
    addresses = {lead.id: lead.email for lead in facts.leads}
    arrived = Counter(mail.email_id for mail in facts.mails)
    for email in facts.emails:
        copies = arrived[email.id]
        if email.state == "sent" and copies == 0:
            yield Finding(
                Verdict.LOST, f"the {email.kind} e-mail of the lead {email.lead_id} is sent, and came nowhere"
            )
        if copies > 1:
            verdict = Verdict.REPEATED if copies <= email.attempts else Verdict.DUPLICATED
            yield Finding(verdict, f"the {email.kind} e-mail of the lead {email.lead_id} came {copies} times")
    for mail in facts.mails:
        if mail.email_id not in rows:
            yield Finding(Verdict.PHANTOM, f"a {mail.kind} e-mail of the lead {mail.lead_id} that nobody wrote down")
        elif mail.kind == "prospect" and mail.to != (addresses.get(mail.lead_id),):
            yield Finding(Verdict.PHANTOM, f"the e-mail of the lead {mail.lead_id} came to another person")


def _blobs(facts: Facts) -> Iterator[Finding]:
    known = {lead.resume_path for lead in facts.leads}
    for blob_id in facts.blobs:
        if blob_id not in known:
            yield Finding(Verdict.ORPHAN, f"the blob {blob_id}")


def _queue(facts: Facts) -> Iterator[Finding]:
    if facts.waiting:
        yield Finding(Verdict.STUCK, f"{facts.waiting} messages wait in the queue")
    if facts.dead:
        yield Finding(Verdict.STUCK, f"{facts.dead} dead letters")
