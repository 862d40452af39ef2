"""The one error family: what is refused, why, and how it looks over HTTP (RFC 9457 problem details).

The domain raises `Problem(ProblemType.…, detail)`; only this module knows status codes and titles. What lives here is
written for the caller. Internals (paths, SQL, stack traces) go to the log, never into a `detail`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any

MEDIA_TYPE = "application/problem+json"
"""Media type of every error body (RFC 9457, section 3)."""

TYPE_PREFIX = "urn:leads:problem:"
"""Problem types are stable URNs: programs compare them, the words beside them may improve."""


class ProblemType(StrEnum):
    """Stable last part of each problem's `type`."""

    MALFORMED_REQUEST = "malformed-request"
    MALFORMED_MULTIPART = "malformed-multipart"
    DUPLICATE_EMAIL = "duplicate-email"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    REQUEST_TIMEOUT = "request-timeout"
    ILLEGAL_TRANSITION = "illegal-transition"
    UPLOAD_CONFLICT = "upload-conflict"
    UPLOAD_UNFINISHED = "upload-unfinished"
    TICKET_USED = "ticket-used"
    PRECONDITION_FAILED = "precondition-failed"
    BODY_TOO_LARGE = "body-too-large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type"
    UNSUPPORTED_RESUME = "unsupported-resume"
    RANGE_NOT_SATISFIABLE = "range-not-satisfiable"
    INVALID_FIELDS = "invalid-fields"
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused"
    RATE_LIMITED = "rate-limited"
    HEADERS_TOO_LARGE = "headers-too-large"
    INTERNAL_ERROR = "internal-error"
    UNAVAILABLE = "unavailable"
    STORAGE_FULL = "storage-full"


TABLE: Mapping[ProblemType, tuple[HTTPStatus, str]] = {
    ProblemType.MALFORMED_REQUEST: (HTTPStatus.BAD_REQUEST, "The request cannot be read"),
    ProblemType.MALFORMED_MULTIPART: (HTTPStatus.BAD_REQUEST, "The form cannot be read"),
    ProblemType.DUPLICATE_EMAIL: (HTTPStatus.BAD_REQUEST, "This e-mail address has already been used"),
    ProblemType.UNAUTHENTICATED: (HTTPStatus.UNAUTHORIZED, "Sign in first"),
    ProblemType.FORBIDDEN: (HTTPStatus.FORBIDDEN, "Your role does not allow this"),
    ProblemType.NOT_FOUND: (HTTPStatus.NOT_FOUND, "There is nothing here"),
    ProblemType.METHOD_NOT_ALLOWED: (HTTPStatus.METHOD_NOT_ALLOWED, "This method is not served here"),
    ProblemType.REQUEST_TIMEOUT: (HTTPStatus.REQUEST_TIMEOUT, "The request took too long to arrive"),
    ProblemType.ILLEGAL_TRANSITION: (HTTPStatus.CONFLICT, "The lead cannot move to this state"),
    ProblemType.UPLOAD_CONFLICT: (HTTPStatus.CONFLICT, "The upload goes on in another way"),
    ProblemType.UPLOAD_UNFINISHED: (HTTPStatus.CONFLICT, "The resume has not arrived yet"),
    ProblemType.TICKET_USED: (HTTPStatus.CONFLICT, "This ticket has made its lead"),
    ProblemType.PRECONDITION_FAILED: (
        HTTPStatus.PRECONDITION_FAILED,
        "It has changed since you read it",
    ),
    ProblemType.BODY_TOO_LARGE: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The request is too large"),
    ProblemType.UNSUPPORTED_MEDIA_TYPE: (
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "This kind of request is not read here",
    ),
    ProblemType.UNSUPPORTED_RESUME: (
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "This kind of resume is not accepted",
    ),
    ProblemType.RANGE_NOT_SATISFIABLE: (
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        "The range lies outside the file",
    ),
    ProblemType.INVALID_FIELDS: (HTTPStatus.UNPROCESSABLE_ENTITY, "Some fields are not valid"),
    ProblemType.IDEMPOTENCY_KEY_REUSED: (
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "This Idempotency-Key belongs to another request",
    ),
    ProblemType.RATE_LIMITED: (HTTPStatus.TOO_MANY_REQUESTS, "Too many requests"),
    ProblemType.HEADERS_TOO_LARGE: (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The request headers are too large",
    ),
    ProblemType.INTERNAL_ERROR: (HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong on our side"),
    ProblemType.UNAVAILABLE: (HTTPStatus.SERVICE_UNAVAILABLE, "Not available right now"),
    ProblemType.STORAGE_FULL: (HTTPStatus.INSUFFICIENT_STORAGE, "The storage is full"),
}


@dataclass(frozen=True)
class FieldError:
    """One field that is not valid: its name as sent, and what to do about it in words."""

    field: str
    detail: str


class Problem(Exception):  # noqa: N818 - the RFC's own word
    """A refusal that the caller can understand and act on."""

    def __init__(
        self,
        type_: ProblemType,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.type = type_
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})
        if retry_after_seconds is not None:
            self.headers["Retry-After"] = str(retry_after_seconds)

    def __copy__(self) -> "Problem":
        """The same for somebody else: whoever answers with it may add headers."""
        return Problem(self.type, self.detail, errors=self.errors, headers=self.headers)

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status of this problem's type."""
        return TABLE[self.type][0]

    def document(self) -> dict[str, Any]:
        """The problem details object: `type, title, status, detail`, and `errors` where fields are to blame."""
        status, title = TABLE[self.type]
        body: dict[str, Any] = {
            "type": TYPE_PREFIX + self.type,
            "title": title,
            "status": int(status),
            "detail": self.detail,
        }
        if self.errors:
            body["errors"] = [asdict(error) for error in self.errors]
        return body

    def body(self) -> bytes:
        """`document()` as UTF-8 JSON."""
        return json.dumps(self.document(), ensure_ascii=False).encode()


def invalid_fields(*errors: FieldError) -> Problem:
    """The 422 that names every field at fault."""
    names = ", ".join(dict.fromkeys(error.field for error in errors))
    return Problem(ProblemType.INVALID_FIELDS, f"Please correct: {names}.", errors=errors)
