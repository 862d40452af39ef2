"""Leads as the intake hands them to the store."""

from datetime import UTC, datetime

from services.api.search import search_text
from services.api.store import NewLead, Submission
from shared.events import Event
from shared.ids import new_id
from tests.harness.events import lead_created


def submission(
    email: str,
    *,
    key: str | None = None,
    last_name: str = "Lee",
    blob: str | None = None,
    by_ticket: bool = False,
    created_at: datetime | None = None,
) -> Submission:
    """One lead, with an event, and under a key if it has one. The same address is the same request."""
    lead = NewLead(
        id=new_id(),
        first_name="Ann",
        last_name=last_name,
        email=email,
        email_key=email.casefold(),
        search_text=search_text("Ann", last_name, email),
        resume_path=blob or new_id(),
        resume_filename="cv.pdf",
        resume_content_type="application/pdf",
        resume_size_bytes=1,
        resume_sha256="0f" * 32,
        created_at=created_at or datetime.now(UTC),
    )
    event = Event.of(lead_created(email), subject=lead.id)
    return Submission(lead, event, answer=f'"{lead.id}"', idempotency_key=key, fingerprint=email, by_ticket=by_ticket)
