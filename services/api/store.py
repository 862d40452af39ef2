"""Every query about leads and idempotency keys. Functions take the session of whoever owns the transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from services.api.states import LeadState, origins
from services.api.tables import IdempotencyKey, Lead
from shared import outbox
from shared.events import Event


@dataclass(frozen=True)
class NewLead:
    """A lead about to be kept, with its event, and the key under which its answer is to be found again."""

    lead: Lead
    event: Event
    answer: str
    """The body of the 201, as JSON."""
    idempotency_key: str | None
    fingerprint: str


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
class KeyReused:
    """The key belongs to another request."""


Outcome = Kept | Replayed | Duplicate | KeyReused


async def insert_leads(session: AsyncSession, news: Sequence[NewLead]) -> list[Outcome]:
    """Keep each lead with its event and key, all in the caller's transaction; one outcome each, in order.

    The idempotency key is looked at before the address: a repeated request is no duplicate.
    """
    answered = await _answers(session, [new.idempotency_key for new in news if new.idempotency_key])
    fresh = [new for new in news if new.idempotency_key not in answered]
    kept = await _insert_new(session, [new.lead for new in fresh])
    outcomes: list[Outcome] = []
    for new in news:
        if new.lead.id in kept:
            outcomes.append(Kept())
            if new.idempotency_key:
                answered[new.idempotency_key] = _key_of(new)
        else:
            outcomes.append(_refusal(new, answered.get(new.idempotency_key)))
    await _keep_with(session, [new for new in fresh if new.lead.id in kept])
    return outcomes


async def get_lead(session: AsyncSession, lead_id: str) -> Lead | None:
    """The lead of that id."""
    return await session.get(Lead, lead_id)


async def move_lead(session: AsyncSession, lead_id: str, wanted: LeadState, version: int | None) -> Lead | None:
    """Move the lead if it may move and still has `version`; None when it may not, has moved, or does not exist.

    One guarded UPDATE: of two people who move a lead at once, one moves it.
    """
    change = (
        update(Lead)
        .where(col(Lead.id) == lead_id, col(Lead.state).in_(origins(wanted)))
        .values(state=wanted, version=Lead.version + 1)
        .returning(Lead)
    )
    if version is not None:
        change = change.where(col(Lead.version) == version)
    return (await session.execute(change)).scalar_one_or_none()


async def known_paths(session: AsyncSession, paths: Sequence[str]) -> set[str]:
    """Those of `paths` that a lead refers to."""
    found = await session.execute(select(col(Lead.resume_path)).where(col(Lead.resume_path).in_(paths)))
    return set(found.scalars())


async def forget_answers(session: AsyncSession, before: datetime) -> None:
    """Drop idempotency keys that were first used before `before`."""
    await session.execute(delete(IdempotencyKey).where(col(IdempotencyKey.created_at) < before))


async def _answers(session: AsyncSession, keys: Sequence[str]) -> dict[str | None, IdempotencyKey]:
    if not keys:
        return {}
    found = await session.execute(select(IdempotencyKey).where(col(IdempotencyKey.key).in_(keys)))
    return {answer.key: answer for answer in found.scalars()}


def _refusal(new: NewLead, answered: IdempotencyKey | None) -> Outcome:
    if answered is None:
        return Duplicate()
    if answered.fingerprint != new.fingerprint:
        return KeyReused()
    return Replayed(answered.answer, answered.lead_id)


async def _keep_with(session: AsyncSession, kept: Sequence[NewLead]) -> None:
    """The rows that make a lead whole: its event, and the answer to its key."""
    await outbox.add(session, [new.event for new in kept])
    session.add_all([_key_of(new) for new in kept if new.idempotency_key])


async def _insert_new(session: AsyncSession, leads: Sequence[Lead]) -> set[str]:
    """Insert the leads whose address is new; gives back their ids. The unique index is the judge: no race."""
    if not leads:
        return set()
    dialect = session.get_bind().dialect.name
    insert = (postgresql if dialect == "postgresql" else sqlite).insert
    statement = insert(Lead).on_conflict_do_nothing().returning(col(Lead.id))
    inserted = await session.execute(statement, [lead.model_dump() for lead in leads])
    return set(inserted.scalars())


def _key_of(new: NewLead) -> IdempotencyKey:
    return IdempotencyKey(
        key=new.idempotency_key or "",
        fingerprint=new.fingerprint,
        lead_id=new.lead.id,
        answer=new.answer,
        created_at=datetime.now(UTC),
    )
