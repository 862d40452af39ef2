"""Examples for the OpenAPI document. `tests/contract` holds those which a caller can provoke to what the api says."""

from collections.abc import Mapping
from typing import Any, Final

from shared.problems import ProblemType

DETAILS: Final[Mapping[ProblemType, str]] = {
    ProblemType.MALFORMED_REQUEST: "This is not a well-formed HTTP/1.1 request.",
    ProblemType.MALFORMED_MULTIPART: "The form cannot be read: its Content-Type names no usable boundary.",
    ProblemType.DUPLICATE_EMAIL: "We already have a resume from this e-mail address.",
    ProblemType.UNAUTHENTICATED: "The token is missing, expired or not one of ours: sign in again.",
    ProblemType.FORBIDDEN: "Only an admin may do this.",
    ProblemType.NOT_FOUND: "There is no lead of this id.",
    ProblemType.METHOD_NOT_ALLOWED: "This address does not serve that method.",
    ProblemType.REQUEST_TIMEOUT: "The request headers did not arrive within 10 seconds.",
    ProblemType.ILLEGAL_TRANSITION: "A lead that is REACHED_OUT cannot become PENDING.",
    ProblemType.UPLOAD_CONFLICT: "1048576 bytes have come: go on there (Upload-Offset).",
    ProblemType.UPLOAD_UNFINISHED: (
        "The resume has not arrived whole: ask the upload's address how much has come (HEAD), and send the rest."
    ),
    ProblemType.TICKET_USED: "A lead came with this ticket before. Each ticket is for one lead.",
    ProblemType.PRECONDITION_FAILED: "Somebody changed this lead after you read it: read it again.",
    ProblemType.BODY_TOO_LARGE: "The resume may have at most 5 MiB.",
    ProblemType.UNSUPPORTED_MEDIA_TYPE: (
        "Send the form as multipart/form-data with first_name, last_name, email and the file resume."
    ),
    ProblemType.UNSUPPORTED_RESUME: "The file is named .pdf, but what is in it is not PDF.",
    ProblemType.RANGE_NOT_SATISFIABLE: "The resume does not have the bytes that were asked for.",
    ProblemType.INVALID_FIELDS: "Please correct: email.",
    ProblemType.IDEMPOTENCY_KEY_REUSED: (
        "This Idempotency-Key came with another request before. Use a fresh key for each new request."
    ),
    ProblemType.RATE_LIMITED: "At most 60 in 60 seconds: try again in 41 seconds.",
    ProblemType.HEADERS_TOO_LARGE: "At most 100 headers are read, 16 KiB together with the address.",
    ProblemType.INTERNAL_ERROR: "We have logged what happened. Trying again later may help.",
    ProblemType.UNAVAILABLE: (
        "The resume cannot be kept or read right now. Nothing was kept: please try again in a moment."
    ),
    ProblemType.STORAGE_FULL: "There is no room left for resumes. Nothing was kept.",
}

FIELD_ERRORS: Final[Mapping[ProblemType, list[tuple[str, str]]]] = {
    ProblemType.INVALID_FIELDS: [("email", "This must be one e-mail address such as ann@example.com.")],
}

_LEAD: Final = {
    "id": "01a20fa3-8034-7056-a630-ab3163cd2482",
    "first_name": "Ann",
    "last_name": "Lee",
    "email": "ann@example.com",
    "resume_path": "01a20fa3-8030-7b11-9c5e-0d1f6a3e7c42",
    "resume": {
        "filename": "cv.pdf",
        "content_type": "application/pdf",
        "size": 65536,
        "sha256": "b0e1c2719b6a743d918a161d499dbfc2bada8a2aaff7b886a487cb253899e0fe",
    },
    "state": "PENDING",
    "created_at": "2026-11-24T22:18:23.156255Z",
}

ANSWERS: Final[Mapping[str, Any]] = {
    "LeadView": _LEAD,
    "LeadPage": {"items": [_LEAD], "next_cursor": "eyJzb3J0IjoiLWNyZWF0ZWRfYXQifQ", "total": 123},
    "LeadChange": {"state": "REACHED_OUT"},
    "Credentials": {"username": "admin@leads.example", "password": "correct-horse-battery-staple"},
    "LeadClaim": {
        "first_name": "Ann",
        "last_name": "Lee",
        "email": "ann@example.com",
        "ticket": "header.claims.signature",
    },
    "UploadWanted": {"filename": "portfolio.pdf", "size_bytes": 20971520},
    "UploadTicket": {
        "upload_url": "https://uploads.example.com/uploads/01a20fa3-8030-7b11-9c5e-0d1f6a3e7c42",
        "ticket": "header.claims.signature",
        "expires_at": "2026-11-24T22:33:23Z",
        "max_bytes": 52428800,
        "protocol": "tus/1.0.0",
    },
    "Token": {"access_token": "header.claims.signature", "token_type": "bearer", "expires_in": 3600},
    "PublicKeys": {"keys": []},
}
"""By the name of their schema."""
