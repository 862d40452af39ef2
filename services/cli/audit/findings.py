"""What an audit can find, and how it is said. Whether something is found is decided in `judge`."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum


class FindingKind(StrEnum):
    """What does not add up: stable names, for programs. `docs/audit.md` says what to do about each."""

    RESUME_MISSING = "resume-missing"
    RESUME_SIZE = "resume-size"
    RESUME_CONTENT = "resume-content"
    EVENT_MISSING = "event-missing"
    EVENT_REPEATED = "event-repeated"
    EMAIL_LOST = "email-lost"
    EVENT_WITHOUT_LEAD = "event-without-lead"
    EMAIL_WITHOUT_LEAD = "email-without-lead"
    ORPHAN_BLOB = "orphan-blob"


WITHOUT_LEAD = frozenset({FindingKind.EVENT_WITHOUT_LEAD, FindingKind.EMAIL_WITHOUT_LEAD})
"""Signs of a lead that was there."""


@dataclass(frozen=True)
class Finding:
    """One thing that does not add up. `subject` says whose id it is: `lead`, `event`, `e-mail` or `blob`."""

    kind: FindingKind
    subject: str
    id: str
    detail: str
    is_mended: bool = False

    def __str__(self) -> str:
        return f"{self.subject} {self.id}: {self.detail}"


@dataclass
class Totals:
    """What was counted on the way."""

    leads: int = 0
    blobs: int = 0
    blobs_in_flight: int = 0
    """Blobs without a lead, younger than the grace: their lead may be about to be kept."""
    events: int = 0
    emails: Counter[str] = field(default_factory=Counter)
    """E-mails by state."""
    waiting_in_outbox: int = 0
    """Leads whose event the bus does not have yet."""
    waiting_on_bus: int = 0
    """Leads with an e-mail outstanding whose event the bus has: ready, in hand, waiting for a retry, or dead."""
    dead: int = 0
    """Dead letters: visibly failed, to be replayed or purged by a person."""
    discrepancies: int = 0
    mended: int = 0
