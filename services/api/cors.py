"""Which pages of other origins may call the API from a browser (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol).

None, unless a setting names them. No cookies are involved: staff sign in with a token that a page must know.
"""

from collections.abc import Sequence
from http import HTTPStatus

from fastapi import Response
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from shared.observe import CORRELATION_HEADER
from shared.problems import Problem, ProblemType
from shared.web import problem_response

METHODS = ("GET", "POST", "PATCH")
READ_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Range", CORRELATION_HEADER)
SHOWN_HEADERS = (
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "Retry-After",
    CORRELATION_HEADER,
)


def cors(origins: Sequence[str]) -> list[Middleware]:
    """The middleware that lets pages of `origins` in; none for none."""
    if not origins:
        return []
    return [
        Middleware(
            _Cors,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=READ_HEADERS,
            expose_headers=SHOWN_HEADERS,
        )
    ]


class _Cors(CORSMiddleware):
    """Starlette's, with refusals in the shape of every other one."""

    def preflight_response(self, request_headers: Headers) -> Response:
        response = super().preflight_response(request_headers)
        if response.status_code == HTTPStatus.OK:
            return response
        detail = "Pages of this origin may not send this request."
        return problem_response(Problem(ProblemType.MALFORMED_REQUEST, detail, headers={"Vary": "Origin"}))
