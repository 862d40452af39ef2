"""The outbox: events kept in the transaction of what they tell of, until the bus has confirmed them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    Column,
    DateTime,
    Index,
    LargeBinary,
    Row,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
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
    waiting_since: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
    """When it was last told to be published again; None: never, it waits (or waited) since `created_at`."""


_OUTBOX = table_of(OutboxEvent)
_FACTS = select(_OUTBOX.c.id, _OUTBOX.c.subject, _OUTBOX.c.published_at)
_MESSAGE_COLUMNS = (_OUTBOX.c.id, _OUTBOX.c.type, _OUTBOX.c.body, _OUTBOX.c.correlation_id, _OUTBOX.c.traceparent)
_MESSAGES = select(*_MESSAGE_COLUMNS)
_WAITING = select(*_MESSAGE_COLUMNS, _OUTBOX.c.waiting_since).where(_OUTBOX.c.published_at.is_(None))
_MARK = (
    update(_OUTBOX)
    .where(_OUTBOX.c.id == bindparam("event"), _OUTBOX.c.waiting_since.is_not_distinct_from(bindparam("since")))
    .values(published_at=bindparam("at"))
)


@dataclass(frozen=True, slots=True)
class EventFacts:
    """What an audit must know of an event. `published_at` is None while the bus has not confirmed it."""

    id: str
    subject: str
    published_at: datetime | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that the bus has not confirmed, ready to be sent. `since` is its `waiting_since` when it was read."""

    message: Message
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    """One step of publishing all again: the `last` id it came to, and how many `events` had been published."""

    last: str
    events: int


@dataclass(frozen=True)
class Backlog:
    """What waits in the outbox: how many, and for how long the oldest has."""

    events: int
    oldest_age_seconds: float


def add(session: Session, events: Sequence[Event]) -> None:
    """Keep the events in the caller's transaction."""
    if events:
        session.connection().execute(insert(_OUTBOX), [_row(event) for event in events])


def unpublished(session: Session, limit: int) -> list[Waiting]:
    """The oldest events that the bus has not confirmed."""
    rows = session.execute(_WAITING.order_by(_OUTBOX.c.id).limit(limit))
    return [Waiting(_message(message), since) for *message, since in rows]


def messages_after(session: Session, type_: str, after: str, limit: int) -> list[Message]:
    """The next `limit` events of that type, published or not, in the order of their ids; "" means from the first."""
    wanted = _MESSAGES.where(_OUTBOX.c.type == type_, _OUTBOX.c.id > after)
    return [_message(row) for row in session.execute(wanted.order_by(_OUTBOX.c.id).limit(limit))]


def publish_again(session: Session, ids: Sequence[str]) -> None:
    """Let the relay send these once more, with the same ids: what consumers have done of them is not done again.

    What the bus confirms of an earlier sending no longer counts, also for those that wait already: the queue that
    confirmed it may be lost.
    """
    again = update(_OUTBOX).where(_OUTBOX.c.id.in_(ids))
    session.execute(again.values(published_at=None, waiting_since=datetime.now(UTC)))


def mark_published(session: Session, confirmed: Sequence[Waiting]) -> None:
    """Remember that the bus has these; but none that was told meanwhile to be published again."""
    if confirmed:
        now = datetime.now(UTC)
        marks = [{"event": one.message.id, "since": one.since, "at": now} for one in confirmed]
        session.connection().execute(_MARK, marks)


def publish_all_again(session: Session, *, after: str, limit: int) -> Step | None:
    """`publish_again` for the next `limit` events behind the id `after`; None when there are no more.

    None that was published and is older than `EVENTS_KEPT`: consumers may no longer know it.
    """
    published = _OUTBOX.c.published_at.is_not(None)
    known = or_(~published, _OUTBOX.c.created_at > datetime.now(UTC) - EVENTS_KEPT)
    wanted = select(_OUTBOX.c.id, published).where(_OUTBOX.c.id > after, known).order_by(_OUTBOX.c.id).limit(limit)
    rows = session.execute(wanted).all()
    if not rows:
        return None
    publish_again(session, [id_ for id_, _ in rows])
    return Step(rows[-1][0], sum(was_published for _, was_published in rows))


def backlog(session: Session) -> Backlog:
    """How far the relay is behind."""
    waiting = col(OutboxEvent.published_at).is_(None)
    events = session.execute(select(func.count()).where(waiting)).scalar_one()
    since = func.coalesce(col(OutboxEvent.waiting_since), col(OutboxEvent.created_at))
    oldest = session.execute(select(func.min(since)).where(waiting)).scalar()
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


def _message(row: Sequence[Any]) -> Message:
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
