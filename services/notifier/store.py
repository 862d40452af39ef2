"""Every query about e-mails. Functions take the session of whoever owns the transaction, and many items at once."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Row, bindparam, func, insert, literal, select, update
from sqlalchemy.orm import Session
from sqlmodel import col

from services.notifier.tables import SETTLED, Email, EmailKind, EmailState
from shared.database import as_utc, table_of
from shared.dialect import take_turns, update_rows

CAP_WINDOW = timedelta(days=1)

_EMAILS = table_of(Email)
_FACTS = select(
    _EMAILS.c.id, _EMAILS.c.lead_id, _EMAILS.c.event_id, _EMAILS.c.kind, _EMAILS.c.state, _EMAILS.c.updated_at
)
_STEP = (
    update(_EMAILS)
    .where(
        _EMAILS.c.id.in_(bindparam("moved_ids", expanding=True)),
        _EMAILS.c.state == bindparam("seen_state"),
        _EMAILS.c.attempts == bindparam("seen_attempts"),
    )
    .values(
        {name: bindparam(name) for name in ("state", "attempts", "cuts", "reason", "provider_message_id", "updated_at")}
    )
)


@dataclass(frozen=True)
class Move:
    """One step of an e-mail: to `state`, if nobody else has taken a step since it was seen.

    A step to the state that it is in already renews `updated_at`.
    """

    email_id: str
    seen_state: EmailState
    attempts: int
    state: EmailState
    reason: str | None = None
    provider_message_id: str | None = None
    cuts: int = 0

    @property
    def is_attempt(self) -> bool:
        """Whether a request follows it."""
        return self.state is EmailState.SENDING and self.seen_state is not EmailState.SENDING


@dataclass(frozen=True, slots=True)
class EmailFacts:
    """What an audit must know of an e-mail: nothing about its reader."""

    id: str
    lead_id: str
    event_id: str
    kind: EmailKind
    state: EmailState
    updated_at: datetime


def plan(session: Session, wanted: Sequence[Sequence[Email]], *, prospect_mails_per_day: int) -> list[Sequence[Email]]:
    """For each event, its e-mails: as they already are, or as wanted if the event is new.

    A prospect's e-mail beyond its mailbox's share of the day is dropped. It is counted here, where events take turns:
    a look before would let everything pass that comes at once.
    """
    take_turns(session, ["planning e-mails"])
    known = _known(session, [emails[0].event_id for emails in wanted])
    new = [email for emails in wanted if emails[0].event_id not in known for email in emails]
    if new:
        _drop_beyond(session, [email for email in new if email.kind is EmailKind.PROSPECT], prospect_mails_per_day)
        session.connection().execute(insert(_EMAILS), [email.model_dump() for email in new])
    return [known.get(emails[0].event_id, emails) for emails in wanted]


def move(session: Session, moves: Sequence[Move]) -> list[bool]:
    """Take each step; False where somebody else was there first. Those that are alike are one statement."""
    alike: dict[Move, list[str]] = {}
    for one in moves:
        alike.setdefault(replace(one, email_id=""), []).append(one.email_id)
    taken = {
        (step, email_id)
        for step, email_ids in alike.items()
        for email_id in update_rows(session, _STEP, _EMAILS.c.id, _values(step, sorted(email_ids)))
    }
    return [_take(taken, (replace(one, email_id=""), one.email_id)) for one in moves]


def settled_events(session: Session, event_ids: Sequence[str]) -> set[str]:
    """Those of these events both of whose e-mails are settled."""
    settled = select(_EMAILS.c.event_id).where(_EMAILS.c.event_id.in_(event_ids), _EMAILS.c.state.in_(SETTLED))
    both = settled.group_by(_EMAILS.c.event_id).having(func.count() == len(EmailKind))
    return set(session.execute(both).scalars())


def doubt(session: Session, event_ids: Sequence[str], why: str) -> int:
    """Note that a request may have left for each e-mail of these events that is not settled; how many there are.

    `attempts` counts requests that may have left, so it counts this one, too.
    """
    was = literal(" (it was ") + _EMAILS.c.state + func.coalesce(literal(": ") + _EMAILS.c.reason, "") + ")"
    doubted = (
        update(_EMAILS)
        .where(_EMAILS.c.event_id.in_(event_ids), _EMAILS.c.state.not_in(SETTLED))
        .ordered_values(  # MySQL sets from left to right: `reason` tells of the state before
            (_EMAILS.c.reason, literal(why) + was),
            (_EMAILS.c.attempts, _EMAILS.c.attempts + 1),
            (_EMAILS.c.updated_at, datetime.now(UTC)),
            (_EMAILS.c.state, EmailState.UNCERTAIN),
        )
    )
    return session.connection().execute(doubted).rowcount


def count_by_state(session: Session) -> dict[EmailState, int]:
    """How many e-mails are in each state; those with none are told as 0."""
    counted = session.execute(select(col(Email.state), func.count()).group_by(col(Email.state))).all()
    return {**dict.fromkeys(EmailState, 0), **dict(counted)}


def facts_between(session: Session, after: str, through: str | None, limit: int) -> list[EmailFacts]:
    """The first `limit` e-mails, in the order of their leads, of leads behind the id `after`.

    They go up to and with the lead `through`; None means to the last.
    """
    wanted = _FACTS.where(_EMAILS.c.lead_id > after)
    if through is not None:
        wanted = wanted.where(_EMAILS.c.lead_id <= through)
    return [_facts(row) for row in session.execute(wanted.order_by(_EMAILS.c.lead_id, _EMAILS.c.id).limit(limit))]


def facts_of(session: Session, lead_ids: Sequence[str]) -> list[EmailFacts]:
    """The e-mails of these leads."""
    wanted = _FACTS.where(_EMAILS.c.lead_id.in_(lead_ids))
    return [_facts(row) for row in session.execute(wanted.order_by(_EMAILS.c.lead_id, _EMAILS.c.id))]


def _facts(row: Row[str, str, str, EmailKind, EmailState, datetime]) -> EmailFacts:
    id_, lead_id, event_id, kind, state, updated_at = row
    return EmailFacts(id_, lead_id, event_id, kind, state, as_utc(updated_at))


def _known(session: Session, event_ids: Sequence[str]) -> dict[str, list[Email]]:
    known: dict[str, list[Email]] = {}
    for email in session.execute(select(Email).where(col(Email.event_id).in_(event_ids))).scalars():
        known.setdefault(email.event_id, []).append(email)
    return known


def _drop_beyond(session: Session, emails: Sequence[Email], prospect_mails_per_day: int) -> None:
    meant = _meant_today(session, {email.mailbox for email in emails})
    for email in emails:
        if meant[email.mailbox] >= prospect_mails_per_day:
            email.state = EmailState.DROPPED
            email.reason = f"this mailbox got {meant[email.mailbox]} e-mails within a day"
        else:
            meant[email.mailbox] += 1


def _meant_today(session: Session, mailboxes: Collection[str]) -> Counter[str]:
    """How many e-mails were meant for each of these mailboxes within a day, and not dropped."""
    counted = (
        select(col(Email.mailbox), func.count())
        .where(
            col(Email.mailbox).in_(mailboxes),
            col(Email.kind) == EmailKind.PROSPECT,
            col(Email.state) != EmailState.DROPPED,
            col(Email.created_at) > datetime.now(UTC) - CAP_WINDOW,
        )
        .group_by(col(Email.mailbox))
    )
    return Counter(dict(session.execute(counted).all()))


def _take(taken: set[tuple[Move, str]], step: tuple[Move, str]) -> bool:
    """Whether the step was taken. Asked for twice at once, it is so for the first."""
    was_taken = step in taken
    taken.discard(step)
    return was_taken


def _values(one: Move, email_ids: Sequence[str]) -> dict[str, object]:
    return {
        "moved_ids": email_ids,
        "seen_state": one.seen_state,
        "seen_attempts": one.attempts,
        "state": one.state,
        "attempts": one.attempts + one.is_attempt,
        "cuts": one.cuts,
        "reason": one.reason,
        "provider_message_id": one.provider_message_id,
        "updated_at": datetime.now(UTC),
    }
