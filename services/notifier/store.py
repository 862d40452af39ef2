"""Every query about e-mails. Functions take the session of whoever owns the transaction, and many items at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from services.notifier.tables import Email, EmailKind, EmailState

CAP_WINDOW = timedelta(days=1)


@dataclass(frozen=True)
class Move:
    """One step of an e-mail: to `state`, if nobody else has taken a step since `attempts` was read."""

    email_id: str
    attempts: int
    state: EmailState
    reason: str | None = None
    provider_message_id: str | None = None


async def plan(
    session: AsyncSession, wanted: Sequence[Sequence[Email]], *, prospect_mails_per_day: int
) -> list[list[Email]]:
    """For each event, its e-mails: as they already are, or as wanted if the event is new.

    A prospect's e-mail beyond its mailbox's share of the day is dropped. It is counted here, where events take turns:
    a look before would let everything pass that comes at once.
    """
    dialect = session.get_bind().dialect.name
    insert = (postgresql if dialect == "postgresql" else sqlite).insert
    for emails in wanted:
        await _drop_beyond(session, emails, prospect_mails_per_day)
        await session.execute(insert(Email).on_conflict_do_nothing(), [email.model_dump() for email in emails])
    event_ids = [emails[0].event_id for emails in wanted]
    found = (await session.execute(select(Email).where(col(Email.event_id).in_(event_ids)))).scalars().all()
    return [[email for email in found if email.event_id == event_id] for event_id in event_ids]


async def move(session: AsyncSession, moves: Sequence[Move]) -> list[bool]:
    """Take each step; False where somebody else was there first. `sending` counts as an attempt."""
    return [await _move(session, one) for one in moves]


async def _drop_beyond(session: AsyncSession, emails: Sequence[Email], prospect_mails_per_day: int) -> None:
    for email in emails:
        if email.kind is EmailKind.PROSPECT:
            already = await _meant_today(session, email.mailbox)
            if already >= prospect_mails_per_day:
                email.state = EmailState.DROPPED
                email.reason = f"this mailbox got {already} e-mails within a day"


async def _meant_today(session: AsyncSession, mailbox: str) -> int:
    """How many e-mails were meant for this mailbox within a day, and not dropped."""
    counted = select(func.count()).where(
        col(Email.mailbox) == mailbox,
        col(Email.kind) == EmailKind.PROSPECT,
        col(Email.state) != EmailState.DROPPED,
        col(Email.created_at) > datetime.now(UTC) - CAP_WINDOW,
    )
    return int((await session.execute(counted)).scalar_one())


async def _move(session: AsyncSession, one: Move) -> bool:
    step = (
        update(Email)
        .where(col(Email.id) == one.email_id, col(Email.attempts) == one.attempts)
        .values(
            state=one.state,
            attempts=one.attempts + (one.state is EmailState.SENDING),
            reason=one.reason,
            provider_message_id=one.provider_message_id,
            updated_at=datetime.now(UTC),
        )
        .returning(col(Email.id))
    )
    return (await session.execute(step)).first() is not None
