"""The notifier's one table: every e-mail that was to be sent, and what became of it."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Column, DateTime, Index, Integer, UniqueConstraint
from sqlmodel import Field, SQLModel

from shared.database import text_enum


class EmailKind(StrEnum):
    """The two e-mails that a lead causes."""

    PROSPECT = "prospect"
    STAFF = "staff"


class EmailState(StrEnum):
    """`sending` is written before the request leaves: whoever finds it there later knows that a request may have."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    UNCERTAIN = "uncertain"
    """A request was sent and its answer never read. It is sent again: two e-mails are better than none."""
    FAILED = "failed"
    DROPPED = "dropped"
    """Not sent on purpose: this mailbox had its share for today."""


SETTLED = frozenset({EmailState.SENT, EmailState.DROPPED})
"""Nothing is to be done any more."""


class Email(SQLModel, table=True):
    """One e-mail. `(event_id, kind)` is unique: however often an event comes, there is one row for each of its two."""

    __tablename__ = "emails"
    __table_args__ = (
        UniqueConstraint("event_id", "kind"),
        Index("ix_emails_mailbox_created_at", "mailbox", "created_at"),
    )

    id: str = Field(primary_key=True)
    event_id: str
    lead_id: str = Field(index=True)
    kind: EmailKind = Field(sa_column=Column(text_enum(EmailKind), nullable=False))
    mailbox: str
    """Who gets it, as the daily cap counts: without the `+tag`, case-folded."""
    state: EmailState = Field(sa_column=Column(text_enum(EmailState), nullable=False, index=True))
    attempts: int = 0
    """Requests that may have left, those included that a pause or an outage refused."""
    cuts: int = Field(default=0, sa_column=Column(Integer, nullable=False, server_default="0"))
    """How often in a row its sending was cut short: whoever had it in hand was gone before any answer."""
    provider_message_id: str | None = None
    reason: str | None = None
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    updated_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
