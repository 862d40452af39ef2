"""The outbox: events kept in the transaction of what they tell of, until the bus has confirmed them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Column, DateTime, Index, LargeBinary, Row, delete, func, insert, select, text, update
from sqlalchemy.orm import Session
from sqlmodel import Field, SQLModel, col

from shared.bus.protocol import Message
from shared.database import as_utc, table_of
from shared.events import MEDIA_TYPE, Event

EVENTS_KEPT = timedelta(days=30)
"""After it was published: as long as consumers remember an event's id."""

_IS_UNPUBLISHED = text("published_at IS NULL")


class OutboxEvent(SQLModel, table=True):
    """One event. `published_at` is empty until the bus has confirmed it; the row stays for a while for the audit."""

    __tablename__ = "outbox"
    __table_args__ = (
        Index("ix_outbox_unpublished", "id", sqlite_where=_IS_UNPUBLISHED, postgresql_where=_IS_UNPUBLISHED),
    )

    id: str = Field(primary_key=True)
    type: str
    subject: str = Field(index=True)
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    correlation_id: str | None = None
    traceparent: str | None = None
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    published_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))


_OUTBOX = table_of(OutboxEvent)
_FACTS = select(_OUTBOX.c.id, _OUTBOX.c.subject, _OUTBOX.c.published_at)
_MESSAGES = select(_OUTBOX.c.id, _OUTBOX.c.type, _OUTBOX.c.body, _OUTBOX.c.correlation_id, _OUTBOX.c.traceparent)


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What an audit must know of an event. `published_at` is None while the bus has not confirmed it."""

    id: str
    subject: str
    published_at: datetime | None


@dataclass(frozen=True)
class Backlog:
    """What waits in the outbox: how many, and for how long the oldest has."""

    events: int
    oldest_age_seconds: float


def add(session: Session, events: Sequence[Event]) -> None:
    """Keep the events in the caller's transaction."""
    if events:
        session.connection().execute(insert(_OUTBOX), [_row(event) for event in events])


def unpublished(session: Session, limit: int) -> list[Message]:
    """The oldest events that the bus has not confirmed, ready to be sent."""
    rows = session.execute(_MESSAGES.where(_OUTBOX.c.published_at.is_(None)).order_by(_OUTBOX.c.id).limit(limit))
    return [_message(row) for row in rows]


def messages_after(session: Session, type_: str, after: str, limit: int) -> list[Message]:
    """The next `limit` events of that type, published or not, in the order of their ids; "" means from the first."""
    wanted = _MESSAGES.where(_OUTBOX.c.type == type_, _OUTBOX.c.id > after)
    return [_message(row) for row in session.execute(wanted.order_by(_OUTBOX.c.id).limit(limit))]


def publish_again(session: Session, ids: Sequence[str]) -> None:
    """Let the relay send these once more, with the same ids: what consumers have done of them is not done again."""
    session.execute(update(_OUTBOX).where(_OUTBOX.c.id.in_(ids)).values(published_at=None))


def mark_published(session: Session, ids: Sequence[str]) -> None:
    """Remember that the bus has these."""
    session.execute(update(_OUTBOX).where(_OUTBOX.c.id.in_(ids)).values(published_at=datetime.now(UTC)))


def unpublish(session: Session, *, after: str, limit: int) -> list[str]:
    """Have the next `limit` published events behind the id `after` published once more; returns their ids.

    None that is older than `EVENTS_KEPT`: consumers may no longer know it.
    """
    wanted = (
        select(_OUTBOX.c.id)
        .where(
            _OUTBOX.c.id > after,
            _OUTBOX.c.published_at.is_not(None),
            _OUTBOX.c.created_at > datetime.now(UTC) - EVENTS_KEPT,
        )
        .order_by(_OUTBOX.c.id)
        .limit(limit)
    )
    ids = list(session.execute(wanted).scalars())
    session.execute(update(_OUTBOX).where(_OUTBOX.c.id.in_(ids)).values(published_at=None))
    return ids


def backlog(session: Session) -> Backlog:
    """How far the relay is behind."""
    waiting = col(OutboxEvent.published_at).is_(None)
    events = session.execute(select(func.count()).where(waiting)).scalar_one()
    oldest = session.execute(select(func.min(col(OutboxEvent.created_at))).where(waiting)).scalar()
    age = datetime.now(UTC) - as_utc(oldest) if oldest else timedelta()
    return Backlog(events, max(0.0, age.total_seconds()))


def facts_between(session: Session, type_: str, after: str, through: str | None, limit: int) -> list[EventFacts]:
    """The first `limit` events of that type, in the order of their subjects, with subjects behind `after`.

    They go up to and with the subject `through`; None means to the last.
    """
    wanted = _FACTS.where(_OUTBOX.c.type == type_, _OUTBOX.c.subject > after)
    if through is not None:
        wanted = wanted.where(_OUTBOX.c.subject <= through)
    return [_facts(row) for row in session.execute(wanted.order_by(_OUTBOX.c.subject, _OUTBOX.c.id).limit(limit))]


def facts_of(session: Session, type_: str, subjects: Sequence[str]) -> list[EventFacts]:
    """The events of that type that tell of these subjects."""
    wanted = _FACTS.where(_OUTBOX.c.type == type_, _OUTBOX.c.subject.in_(subjects))
    return [_facts(row) for row in session.execute(wanted.order_by(_OUTBOX.c.subject, _OUTBOX.c.id))]


def forget_published(session: Session, before: datetime) -> None:
    """Drop what was confirmed before `before`: the audit no longer asks for it."""
    session.execute(delete(OutboxEvent).where(col(OutboxEvent.published_at) < before))


def _facts(row: Row[str, str, datetime | None]) -> EventFacts:
    id_, subject, published_at = row
    return EventFacts(id_, subject, as_utc(published_at) if published_at else None)


def _message(row: Row[str, str, bytes, str | None, str | None]) -> Message:
    id_, type_, body, correlation_id, traceparent = row
    return Message(
        id=id_,
        routing_key=type_,
        body=body,
        content_type=MEDIA_TYPE,
        correlation_id=correlation_id,
        headers={"traceparent": traceparent} if traceparent else {},
    )


def _row(event: Event) -> dict[str, object]:
    return {
        "id": event.id,
        "type": event.type,
        "subject": event.subject,
        "body": event.encode(),
        "correlation_id": event.correlationid,
        "traceparent": event.traceparent,
        "created_at": event.time,
    }
