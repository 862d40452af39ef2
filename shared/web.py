"""What every room's HTTP side does alike: correlation id, limits, access log, problem+json, health.

A plain ASGI middleware, not Starlette's `BaseHTTPMiddleware`: the latter costs a task and a stream per request.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.events import is_correlation_id
from shared.health import Health, health_routes
from shared.ids import new_id
from shared.metrics import HTTP_REQUEST_SECONDS
from shared.observe import CORRELATION_HEADER, begin_correlation
from shared.problems import MEDIA_TYPE, FieldError, Problem, ProblemType, invalid_fields

HEADERS_MAX_BYTES = 16 * 1024
HEADERS_MAX_COUNT = 100
SMALL_BODY_MAX_BYTES = 64 * 1024
"""Limit of every body but an upload's: no JSON that we read is longer."""

BODY_DEADLINE_SECONDS = 60.0
QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Probes are not logged: they would drown what people do."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

log = structlog.get_logger()


def create_service(name: str, health: Health, lifespan: Lifespan, **fastapi: Any) -> FastAPI:
    """A FastAPI app with the front hall that all rooms share. `fastapi` is handed to FastAPI (title, docs, ...)."""
    app = FastAPI(lifespan=lifespan, **fastapi)
    app.include_router(health_routes(health))
    app.add_middleware(FrontHall, service=name)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    return app


def problem_response(problem: Problem) -> Response:
    """The problem as an RFC 9457 answer."""
    return Response(problem.body(), status_code=problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


class FrontHall:
    """Every request passes here once on its way in and once on its way out."""

    def __init__(self, app: ASGIApp, service: str) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        answer = _Answer(scope, send)
        begin_correlation(answer.correlation_id)
        try:
            problem = _refuse_headers(scope)
            if problem is None:
                await self._app(scope, _limited(scope, receive), answer.send)
            else:
                await problem_response(problem)(scope, receive, answer.send)
        except Exception:
            log.exception("request failed", method=scope["method"], path=scope["path"])
            if answer.status == 0:
                await problem_response(_internal_error())(scope, receive, answer.send)
        finally:
            self._record(scope, answer.status, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        HTTP_REQUEST_SECONDS.labels(self._service, scope["method"], route, str(status)).observe(seconds)
        if scope["path"] not in QUIET_PATHS:
            log.info(
                "request",
                method=scope["method"],
                route=route,
                status=status or "client gone",
                ms=round(seconds * 1000, 1),
                **scope["state"].get("log", {}),
            )


class _Answer:
    """The response on its way out: gets the headers that all carry, and remembers its status."""

    def __init__(self, scope: Scope, send: Send) -> None:
        given = Headers(scope=scope).get(CORRELATION_HEADER, "")
        self.correlation_id = given if is_correlation_id(given) else new_id()
        self.status = 0
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[CORRELATION_HEADER] = self.correlation_id
            headers["X-Content-Type-Options"] = "nosniff"
            headers.setdefault("Cache-Control", "no-store")
        await self._send(message)


def announce_upload(scope: Scope) -> None:
    """Mark a request whose body the route itself counts and times as it streams: the small limit is not for it."""
    scope["state"]["upload"] = True


def _limited(scope: Scope, receive: Receive) -> Receive:
    """Refuses a body that is too long or too slow, unless the route said that it does so itself."""
    seen_bytes = 0
    deadline = asyncio.get_running_loop().time() + BODY_DEADLINE_SECONDS

    async def limited() -> Message:
        nonlocal seen_bytes
        if scope["state"].get("upload"):
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise _too_slow() from None
        seen_bytes += len(message.get("body", b""))
        if seen_bytes > SMALL_BODY_MAX_BYTES:
            raise _too_large()
        return message

    return limited


def _refuse_headers(scope: Scope) -> Problem | None:
    headers = scope["headers"]
    if len(headers) > HEADERS_MAX_COUNT or sum(len(n) + len(v) for n, v in headers) > HEADERS_MAX_BYTES:
        return Problem(
            ProblemType.HEADERS_TOO_LARGE,
            f"At most {HEADERS_MAX_COUNT} headers and {HEADERS_MAX_BYTES // 1024} KiB of them are read.",
            headers={"Connection": "close"},
        )
    return None


def _too_large() -> Problem:
    detail = f"This request may hold at most {SMALL_BODY_MAX_BYTES // 1024} KiB."
    return Problem(ProblemType.BODY_TOO_LARGE, detail, headers={"Connection": "close"})


def _too_slow() -> Problem:
    detail = f"The whole request must arrive within {BODY_DEADLINE_SECONDS:.0f} seconds."
    return Problem(ProblemType.REQUEST_TIMEOUT, detail, headers={"Connection": "close"})


def _internal_error() -> Problem:
    return Problem(ProblemType.INTERNAL_ERROR, "We have logged what happened. Trying again later may help.")


async def _on_problem(_request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)
    return problem_response(problem)


async def _on_invalid_request(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [FieldError(".".join(str(p) for p in one["loc"][1:]) or "body", str(one["msg"])) for one in error.errors()]
    return problem_response(invalid_fields(*errors))


_BY_STATUS = {
    HTTPStatus.BAD_REQUEST: (ProblemType.MALFORMED_REQUEST, "The request cannot be read as what it says it is."),
    HTTPStatus.NOT_FOUND: (ProblemType.NOT_FOUND, "Nothing is served at this address."),
    HTTPStatus.METHOD_NOT_ALLOWED: (ProblemType.METHOD_NOT_ALLOWED, "This address does not serve that method."),
}


async def _on_http_exception(_request: Request, error: Exception) -> Response:
    """What the framework itself refuses, in the same shape as our own refusals."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, Problem):
        return problem_response(error.__cause__)
    known = _BY_STATUS.get(HTTPStatus(error.status_code))
    if known is None:
        return JSONResponse({"detail": error.detail}, status_code=error.status_code, headers=error.headers)
    return problem_response(Problem(*known, headers=error.headers))
