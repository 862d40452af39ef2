"""The api's tables. What a row may become is decided in `states.py` and `staff.py`, not here."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import Column, DateTime, Index
from sqlmodel import Field, SQLModel

from services.api.states import LeadState
from shared.database import text_enum


class Role(StrEnum):
    """What a signed-in person may do."""

    STAFF = "staff"
    ADMIN = "admin"


class Lead(SQLModel, table=True):
    """A person who sent a resume. `resume_path` is the blob's key in the storage."""

    __tablename__ = "leads"
    __table_args__ = (
        Index("ix_leads_created_at", "created_at", "id"),
        Index("ix_leads_state_created_at", "state", "created_at", "id"),
        Index("ix_leads_last_name", "last_name", "id"),
        Index("ix_leads_email", "email", "id"),
    )

    id: str = Field(primary_key=True)
    first_name: str
    last_name: str
    email: str
    email_key: str = Field(unique=True)
    """The address case-folded: one person has one lead, however the address is typed."""
    search_text: str
    """Name and address, case-folded, for the staff's search."""
    resume_path: str = Field(index=True, unique=True)
    """One resume has one lead, also when a ticket comes twice."""
    resume_filename: str
    resume_content_type: str
    resume_size_bytes: int
    resume_sha256: str
    state: LeadState = Field(default=LeadState.PENDING, sa_column=Column(text_enum(LeadState), nullable=False))
    version: int = 1
    """Counts changes; the ETag of the lead."""
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))


class LeadRow(NamedTuple):
    """What the list shows of a lead: columns by their names. SQLAlchemy's own rows look a name up at each use."""

    id: str
    first_name: str
    last_name: str
    email: str
    resume_path: str
    resume_filename: str
    resume_content_type: str
    resume_size_bytes: int
    resume_sha256: str
    state: LeadState
    created_at: datetime


class IdempotencyKey(SQLModel, table=True):
    """The first answer to a request with an `Idempotency-Key`, replayed to its repetitions."""

    __tablename__ = "idempotency_keys"

    key: str = Field(primary_key=True)
    fingerprint: str
    """SHA-256 over the fields and the file's hash: the same key with another request is refused."""
    lead_id: str
    answer: str
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False, index=True))


class User(SQLModel, table=True):
    """Somebody who may sign in."""

    __tablename__ = "users"

    email: str = Field(primary_key=True)
    """Case-folded: also the name one signs in with, and the token's `sub`."""
    password_hash: str
    role: Role = Field(sa_column=Column(text_enum(Role), nullable=False))
    token_version: int = 1
    """Raised by a new password: tokens made before are refused."""
    created_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    disabled_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))


class AuditRun(SQLModel, table=True):
    """What one run of `leads audit` found; the api exports the latest as metrics."""

    __tablename__ = "audit_runs"

    id: str = Field(primary_key=True)
    """A UUIDv7 made when the run ended: the highest is the latest."""
    started_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    finished_at: datetime = Field(sa_column=Column(DateTime(timezone=True), nullable=False))
    leads_checked: int
    discrepancies: int
    """What does not add up and was not mended by that run."""


class RateCount(SQLModel, table=True):
    """How often somebody used a rate limit, in its window that ends at `ends_at`."""

    __tablename__ = "rate_counts"

    key: str = Field(primary_key=True)
    """A hash of limit and caller: no address is kept."""
    uses: int
    ends_at: float = Field(index=True)
    """Seconds since 1970: what is compared is made by clocks, not read by people."""
