"""A lead whose resume went straight to the storage: JSON with the fields and the ticket, read and judged."""

import json
from dataclasses import dataclass
from typing import Any, Final

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from services.api.applicants import TEXT_FIELDS, Applicant, clean_applicant
from services.api.upload import refuse_odd_headers
from shared.problems import FieldError, Problem, ProblemType, invalid_fields
from shared.tickets import Ticket, Tickets
from shared.tokens import TokenRefused

TICKET_FIELD: Final = "ticket"
NAME_SHOWN_MAX = 64


@dataclass(frozen=True)
class Claim:
    """Who applies, and the ticket by which their resume was sent. The ticket may have expired meanwhile."""

    applicant: Applicant
    ticket: Ticket


def is_claim(request: Request) -> bool:
    """Whether the request says that it brings JSON."""
    return parse_options_header(request.headers.get("content-type"))[0] == b"application/json"


async def read_claim(request: Request, tickets: Tickets) -> Claim:
    """The claim that a request brings. Raises `Problem` 400 malformed, 415 compressed, 422 fields at fault."""
    refuse_odd_headers(request)
    given = _object(await request.body())
    errors = [FieldError(_shown(name), "This field is not known here.") for name in given if name not in _KNOWN]
    texts = {name: _text(name, value, errors) for name, value in given.items() if name in _KNOWN}
    applicant = clean_applicant(texts, errors)
    ticket = _ticket(texts.get(TICKET_FIELD, b""), tickets, errors)
    if errors or applicant is None or ticket is None:
        raise invalid_fields(*errors)
    return Claim(applicant, ticket)


def ticket_refused(detail: str) -> Problem:
    """The 422 that says what is wrong with the ticket."""
    return invalid_fields(FieldError(TICKET_FIELD, detail))


_KNOWN: Final = frozenset({*TEXT_FIELDS, TICKET_FIELD})
_NO_TICKET = "Send the resume to the storage first, and then its ticket (POST /leads/uploads)."
_BAD_TICKET = "This is no ticket that was made here: get a new one (POST /leads/uploads)."


def _object(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body.decode(), object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise Problem(ProblemType.MALFORMED_REQUEST, "The body cannot be read as a JSON object, with each name once.")
    return given


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a name that comes twice, two readers might read two values (RFC 8259, section 4)."""
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name comes twice")
    return dict(pairs)


def _text(name: str, value: object, errors: list[FieldError]) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")  # half a surrogate pair is refused as what is no UTF-8
    errors.append(FieldError(name, "This field is text."))
    return b""


def _ticket(given: bytes, tickets: Tickets, errors: list[FieldError]) -> Ticket | None:
    if any(error.field == TICKET_FIELD for error in errors):
        return None
    try:
        return tickets.read(given.decode(errors="replace"), even_expired=True)
    except TokenRefused:
        errors.append(FieldError(TICKET_FIELD, _BAD_TICKET if given else _NO_TICKET))
        return None


def _shown(name: str) -> str:
    return name if name.isprintable() and len(name) <= NAME_SHOWN_MAX else "unknown"
