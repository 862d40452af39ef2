"""Events as the api would publish them."""

from datetime import UTC, datetime

from shared.events import Event, LeadCreated, ResumeFacts
from shared.ids import new_id


def lead_created(email: str = "ann@example.com") -> LeadCreated:
    """What is said of a lead."""
    return LeadCreated(
        lead_id=new_id(),
        first_name="Ann",
        last_name="Lee",
        email=email,
        resume=ResumeFacts(filename="cv.pdf", content_type="application/pdf", size_bytes=65_536, sha256="0f" * 32),
        created_at=datetime.now(UTC),
    )


def event(lead: LeadCreated | None = None) -> Event:
    """The same in its envelope."""
    lead = lead or lead_created()
    return Event.of(lead, subject=lead.lead_id, correlation_id="asked-for-by-the-test")
