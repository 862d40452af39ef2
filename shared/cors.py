"""Which pages of other origins may call a room from a browser (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol).

None, unless a setting names them. No cookies are involved: whoever signs in or has a ticket has a token to show.
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


def cors(
    origins: Sequence[str], *, methods: Sequence[str], read_headers: Sequence[str], shown_headers: Sequence[str]
) -> list[Middleware]:
    """The middleware that lets pages of `origins` in, and see `shown_headers` of answers; none for none."""
    if not origins:
        return []
    return [
        Middleware(
            _Cors,
            allow_origins=origins,
            allow_methods=methods,
            allow_headers=(*read_headers, CORRELATION_HEADER),
            expose_headers=(*shown_headers, CORRELATION_HEADER),
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
