"""Tickets for uploads straight to the storage: the api makes one, the storage takes bytes for it, the api a lead.

A ticket is a signed token (`tokens.UPLOAD`) for one blob id, one file name and one size. Its key is made of the service
secret and is another, so that neither a ticket nor a service token is worth anything where the other is asked for.
"""

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime

from shared.ids import is_id
from shared.tokens import LEEWAY_SECONDS, UPLOAD, TokenRefused, Tokens

TICKET_SECONDS = UPLOAD.max_lifetime_seconds
"""How long a ticket is good for, from its making: for all of the upload, and the lead after it."""

UNCLAIMED_SECONDS = TICKET_SECONDS + LEEWAY_SECONDS + 300
"""For so long after its last byte came, a resume may still get its lead by a ticket: until the ticket has expired on
every clock, and for five minutes more, which is far longer than the api takes to look at it and to commit."""


@dataclass(frozen=True)
class Ticket:
    """What a ticket is good for."""

    blob_id: str
    filename: str
    size_bytes: int
    expires_at: datetime


class Tickets:
    """Makes and reads tickets."""

    def __init__(self, service_secret: str) -> None:
        key = hmac.digest(service_secret.encode(), UPLOAD.name.encode(), "sha256")
        self._tokens = Tokens(key.hex(), UPLOAD)

    def issue(self, blob_id: str, *, filename: str, size_bytes: int) -> str:
        """A ticket that is good from now on."""
        return self._tokens.issue(blob_id, TICKET_SECONDS, filename=filename, size_bytes=size_bytes)

    def read(self, ticket: str, *, even_expired: bool = False) -> Ticket:
        """What a good ticket says. Raises `TokenRefused`, whatever is wrong with it.

        `even_expired`: for who has to know what it was good for. It must have been made by us all the same.
        """
        claims = self._tokens.verify(ticket, even_expired=even_expired)
        blob_id, filename, size_bytes = claims["sub"], claims.get("filename"), claims.get("size_bytes")
        if not is_id(blob_id) or not isinstance(filename, str) or not isinstance(size_bytes, int):
            raise TokenRefused("does not say what it is good for")
        return Ticket(blob_id, filename, size_bytes, datetime.fromtimestamp(claims["exp"], UTC))


def is_expired(ticket: Ticket) -> bool:
    """Whether it is good no more, by a clock that may be a little late."""
    return datetime.now(UTC).timestamp() >= ticket.expires_at.timestamp() + LEEWAY_SECONDS
