"""Every query about leads, idempotency keys, audit runs. Functions take the session of whoever owns the transaction."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Row, Select, delete, func, select, update
from sqlalchemy.orm import Session
from sqlmodel import col

from services.api.states import LeadState, origins
from services.api.tables import AuditRun, IdempotencyKey, Lead
from shared import outbox
from shared.database import as_utc, table_of
from shared.dialect import after_writers, insert_new, take_turns
from shared.events import Event

_LEADS = table_of(Lead)
_FACTS = select(
    _LEADS.c.id, _LEADS.c.resume_path, _LEADS.c.resume_size_bytes, _LEADS.c.resume_sha256, _LEADS.c.created_at
)
_RESUMES = select(
    _LEADS.c.id,
    _LEADS.c.resume_path,
    _LEADS.c.resume_filename,
    _LEADS.c.resume_content_type,
    _LEADS.c.resume_size_bytes,
    _LEADS.c.resume_sha256,
)


@dataclass(frozen=True, kw_only=True)
class NewLead:
    """The row of a lead that is about to be kept: every column, under its name.

    Not a `Lead`: to make one costs more than to insert it.
    """

    id: str
    first_name: str
    last_name: str
    email: str
    email_key: str
    search_text: str
    resume_path: str
    resume_filename: str
    resume_content_type: str
    resume_size_bytes: int
    resume_sha256: str
    state: LeadState = LeadState.PENDING
    version: int = 1
    created_at: datetime


@dataclass(frozen=True)
class Resume:
    """A resume that the storage keeps, as its lead will tell of it."""

    blob_id: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Submission:
    """A lead about to be kept, with its event, and the key under which its answer is to be found again."""

    lead: NewLead
    event: Event
    answer: str
    """The body of the 201, as JSON."""
    idempotency_key: str | None
    fingerprint: str
    by_ticket: bool = False
    """Whether its resume may come again: a form's never does."""


@dataclass(frozen=True)
class Kept:
    """The lead, its event and its key are in the database."""


@dataclass(frozen=True)
class Replayed:
    """The same request was answered before: this was the answer."""

    answer: str
    lead_id: str


@dataclass(frozen=True)
class Duplicate:
    """Somebody with this address has a lead already."""


@dataclass(frozen=True)
class ResumeTaken:
    """Another lead has this resume already."""


@dataclass(frozen=True)
class KeyReused:
    """The key belongs to another request."""


@dataclass(frozen=True, slots=True)
class LeadFacts:
    """What an audit must know of a lead: nothing about the person."""

    id: str
    resume_path: str
    resume_size_bytes: int
    resume_sha256: str
    created_at: datetime


Outcome = Kept | Replayed | Duplicate | ResumeTaken | KeyReused


def insert_leads(session: Session, submissions: Sequence[Submission]) -> list[Outcome]:
    """Keep each lead with its event and key, all in the caller's transaction; one outcome each, in order.

    The idempotency key is looked at before the address: a repeated request is no duplicate. A ticket
    that made its lead is looked at before the address, too, so that whoever sends it again learns why.
    """
    answered = _answers(session, sorted({new.idempotency_key for new in submissions if new.idempotency_key}))
    fresh = [new for new in submissions if new.idempotency_key not in answered]
    kept = _insert_new(session, [new.lead for new in fresh])
    claimed = [new.lead.resume_path for new in fresh if new.by_ticket and new.lead.id not in kept]
    taken = known_paths(session, claimed) if claimed else set()
    outcomes: list[Outcome] = []
    for new in submissions:
        if new.lead.id in kept:
            outcomes.append(Kept())
            if new.idempotency_key:
                answered[new.idempotency_key] = _key_of(new)
        else:
            outcomes.append(_refusal(new, answered.get(new.idempotency_key), taken))
    _keep_with(session, [new for new in fresh if new.lead.id in kept])
    return outcomes


def get_lead(session: Session, lead_id: str) -> Lead | None:
    """The lead of that id."""
    return session.get(Lead, lead_id)


def find_resumes(session: Session, lead_ids: Sequence[str]) -> list[Resume | None]:
    """The resumes of these leads, in that order."""
    found = session.execute(_RESUMES.where(_LEADS.c.id.in_(set(lead_ids))))
    resumes = {lead_id: Resume(*resume) for lead_id, *resume in found}
    return [resumes.get(lead_id) for lead_id in lead_ids]


def move_lead(session: Session, lead_id: str, wanted: LeadState, version: int | None) -> Lead | None:
    """Move the lead if it may move and still has `version`; None when it may not, has moved, or does not exist.

    One guarded UPDATE: of two people who move a lead at once, one moves it.
    """
    change = (
        update(Lead)
        .where(col(Lead.id) == lead_id, col(Lead.state).in_(origins(wanted)))
        .values(state=wanted, version=Lead.version + 1)
    )
    if version is not None:
        change = change.where(col(Lead.version) == version)
    moved = session.connection().execute(change).rowcount
    return session.get(Lead, lead_id) if moved else None


def resume_of(session: Session, blob_id: str) -> Resume | None:
    """The resume under that id as the lead tells of it that has it; None when none has."""
    found = session.execute(_RESUMES.where(_LEADS.c.resume_path == blob_id)).one_or_none()
    return None if found is None else Resume(*found[1:])


def known_paths(session: Session, paths: Sequence[str]) -> set[str]:
    """Those of `paths` that a lead refers to."""
    return set(session.execute(_with_paths(paths)).scalars())


def known_paths_for_good(session: Session, paths: Sequence[str]) -> set[str]:
    """The same, for who removes the others: whoever is just committing a lead is waited for."""
    return set(session.execute(after_writers(session, _LEADS, _with_paths(paths))).scalars())


def count_leads(session: Session) -> int:
    """How many leads there are."""
    return int(session.execute(select(func.count()).select_from(_LEADS)).scalar_one())


def newest_lead_id(session: Session) -> str | None:
    """The highest id of all leads, if there are any."""
    return session.execute(select(func.max(_LEADS.c.id))).scalar()


def lead_facts_after(session: Session, after: str, limit: int) -> list[LeadFacts]:
    """The next `limit` leads in the order of their ids; an empty `after` means from the first."""
    found = session.execute(_FACTS.where(_LEADS.c.id > after).order_by(_LEADS.c.id).limit(limit))
    return [_facts(row) for row in found]


def lead_facts(session: Session, ids: Sequence[str]) -> list[LeadFacts]:
    """Those of these leads that exist."""
    return [_facts(row) for row in session.execute(_FACTS.where(_LEADS.c.id.in_(ids)))]


def add_audit_run(session: Session, run: AuditRun) -> None:
    """Keep the result of an audit."""
    session.add(run)


def latest_audit_run(session: Session) -> AuditRun | None:
    """The audit that ended last, if there ever was one."""
    return session.execute(select(AuditRun).order_by(col(AuditRun.id).desc()).limit(1)).scalar()


def forget_answers(session: Session, before: datetime) -> None:
    """Drop idempotency keys that were first used before `before`."""
    session.execute(delete(IdempotencyKey).where(col(IdempotencyKey.created_at) < before))


def _with_paths(paths: Sequence[str]) -> Select[str]:
    return select(_LEADS.c.resume_path).where(_LEADS.c.resume_path.in_(paths))


def _facts(row: Row[str, str, int, str, datetime]) -> LeadFacts:
    lead_id, resume_path, size_bytes, sha256, created_at = row
    return LeadFacts(lead_id, resume_path, size_bytes, sha256, as_utc(created_at))


def _answers(session: Session, keys: Sequence[str]) -> dict[str | None, IdempotencyKey]:
    """What was answered to these keys. Whoever comes with one of them at the same time waits until this is decided."""
    if not keys:
        return {}
    take_turns(session, [f"idempotency key {key}" for key in keys])
    found = session.execute(select(IdempotencyKey).where(col(IdempotencyKey.key).in_(keys)))
    return {answer.key: answer for answer in found.scalars()}


def _refusal(new: Submission, answered: IdempotencyKey | None, taken: AbstractSet[str]) -> Outcome:
    if answered is None:
        return ResumeTaken() if new.lead.resume_path in taken else Duplicate()
    if answered.fingerprint != new.fingerprint:
        return KeyReused()
    return Replayed(answered.answer, answered.lead_id)


def _keep_with(session: Session, kept: Sequence[Submission]) -> None:
    """The rows that make a lead whole: its event, and the answer to its key."""
    outbox.add(session, [new.event for new in kept])
    session.add_all([_key_of(new) for new in kept if new.idempotency_key])


def _insert_new(session: Session, leads: Sequence[NewLead]) -> set[str]:
    """Insert the leads whose address and resume are new; gives back their ids. The unique indexes judge: no race.

    They are sorted, so that two transactions with the same addresses never wait for each other. Two with the same
    tickets may, which only misuse brings about: the server ends one of them, and it begins anew.
    """
    return insert_new(session, _LEADS, [vars(lead) for lead in sorted(leads, key=_address)]) if leads else set()


def _address(lead: NewLead) -> str:
    return lead.email_key


def _key_of(new: Submission) -> IdempotencyKey:
    return IdempotencyKey(
        key=new.idempotency_key or "",
        fingerprint=new.fingerprint,
        lead_id=new.lead.id,
        answer=new.answer,
        created_at=datetime.now(UTC),
    )
