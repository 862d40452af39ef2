"""What every room's HTTP side does alike: correlation id, limits, access log, problem+json, health.

A plain ASGI middleware, not Starlette's `BaseHTTPMiddleware`: the latter costs a task and a stream per request.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.events import is_correlation_id
from shared.health import QUIET_PATHS, Health, health_routes
from shared.ids import new_id
from shared.metrics import BUILD_INFO, HTTP_REQUEST_SECONDS
from shared.observe import CORRELATION_HEADER, begin_correlation
from shared.problems import MEDIA_TYPE, FieldError, Problem, ProblemType, invalid_fields
from shared.tracing.server import NO_ROUTE, NOT_SERVING, ServerSpan, serving
from shared.version import VERSION

HEADERS_MAX_BYTES = 16 * 1024
HEADERS_MAX_COUNT = 100
SMALL_BODY_MAX_BYTES = 64 * 1024
"""Limit of every body but an upload's: no JSON that we read is longer."""

BODY_DEADLINE_SECONDS = 60.0
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_NO_TELEMETRY = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""FastAPI's own: its spans hold whole queries, and the staff search for addresses (docs/decisions/0016)."""

log = structlog.get_logger()


def create_service(
    name: str, health: Health, lifespan: Lifespan, *, factory: Callable[..., FastAPI] = FastAPI, **fastapi: Any
) -> FastAPI:
    """A FastAPI app with the front hall that all rooms share. `fastapi` is handed to its factory (title, docs, ...)."""
    # Off: a redirect to the path without its last slash would lead to whatever host the caller wrote into `Host`.
    app = factory(lifespan=_announced(lifespan), **{"redirect_slashes": False, "telemetry": _NO_TELEMETRY, **fastapi})
    BUILD_INFO.labels(name, VERSION).set(1)
    app.include_router(health_routes(health))
    app.add_middleware(FrontHall, service=name)
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    return app


def _announced(lifespan: Lifespan) -> Lifespan:
    """Says in the log from when on, and until when, the room answers."""

    @asynccontextmanager
    async def announced(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app):
            log.info("started", version=VERSION)
            yield
            log.info("stopping")

    return announced


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
        with NOT_SERVING if scope["path"] in QUIET_PATHS else serving(scope) as span:
            await self._serve(_read_head_as_get(scope), receive, send, span)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, span: ServerSpan) -> None:
        started = time.perf_counter()
        answer = _Answer(scope, send)
        begin_correlation(answer.correlation_id)
        try:
            problem = _refuse_headers(scope)
            if problem is None:
                await self._app(scope, _limited(scope, receive), answer.send)
            else:
                await problem_response(problem)(scope, receive, answer.send)
        except ClientDisconnect as error:
            span.failed(error)  # nobody is left to answer; the record below says so
        except Exception as error:
            span.failed(error)
            log.exception("request failed", method=scope["method"], path=scope["path"])
            if answer.status == 0:
                await problem_response(_internal_error())(scope, receive, answer.send)
        finally:
            self._record(scope, answer, time.perf_counter() - started, span)

    def _record(self, scope: Scope, answer: "_Answer", seconds: float, span: ServerSpan) -> None:
        route, status = getattr(scope.get("route"), "path", NO_ROUTE), answer.status
        facts = scope["state"].get("log", {})
        HTTP_REQUEST_SECONDS.labels(self._service, scope["method"], route, str(status)).observe(seconds)
        if scope["path"] not in QUIET_PATHS:
            log.info(
                "request",
                method=scope["method"],
                route=route,
                status=status or "client gone",
                ms=round(seconds * 1000, 1),
                **facts,
            )
        span.answered(route, status, correlation_id=answer.correlation_id, **facts)


class _Answer:
    """The response on its way out: gets the headers that all carry, and remembers its status."""

    def __init__(self, scope: Scope, send: Send) -> None:
        given = Headers(scope=scope).get(CORRELATION_HEADER, "")
        self.correlation_id = given if is_correlation_id(given) else new_id()
        self.status = 0
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = int(message["status"])
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


def _read_head_as_get(scope: Scope) -> Scope:
    """HEAD answers as GET would, without a range (RFC 9110, sections 9.3.2 and 14.2). The server leaves the body out.

    FastAPI would answer 405, unless a route says that it serves HEAD itself.
    """
    if scope["method"] != "HEAD" or _is_served(scope, "HEAD"):
        return scope
    headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
    scope["state"]["head"] = True
    return {**scope, "method": "GET", "headers": headers}


def is_head(scope: Scope) -> bool:
    """Whether what a route reads as GET was asked as HEAD."""
    return "head" in scope["state"]


def _is_served(scope: Scope, method: str) -> bool:
    asked = {**scope, "method": method}
    return any(route.matches(asked)[0] is Match.FULL for route in scope["app"].routes)


def _refuse_headers(scope: Scope) -> Problem | None:
    headers = scope["headers"]
    size_bytes = sum(len(name) + len(value) for name, value in headers)
    size_bytes += len(scope["path"]) + len(scope["query_string"])
    if len(headers) > HEADERS_MAX_COUNT or size_bytes > HEADERS_MAX_BYTES:
        return Problem(
            ProblemType.HEADERS_TOO_LARGE,
            f"At most {HEADERS_MAX_COUNT} headers are read, {HEADERS_MAX_BYTES // 1024} KiB together with the address.",
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


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if any(one["loc"] == ("body",) for one in error.errors()) and not _says_json(request):
        detail = "Send the body as JSON, with Content-Type: application/json."
        return problem_response(Problem(ProblemType.UNSUPPORTED_MEDIA_TYPE, detail))
    if any(one["type"] == "json_invalid" for one in error.errors()):
        return problem_response(Problem(ProblemType.MALFORMED_REQUEST, "The body cannot be read as JSON."))
    errors = [FieldError(_field(one["loc"]), str(one["msg"]).removeprefix("Value error, ")) for one in error.errors()]
    return problem_response(invalid_fields(*errors))


def _field(place: Sequence[object]) -> str:
    return ".".join(str(part) for part in place[1:]) or "body"


def _says_json(request: Request) -> bool:
    """A body that does not say what it is may be JSON (RFC 9110, section 8.3)."""
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


_BY_STATUS = {
    HTTPStatus.NOT_FOUND: (ProblemType.NOT_FOUND, "Nothing is served at this address."),
    HTTPStatus.METHOD_NOT_ALLOWED: (ProblemType.METHOD_NOT_ALLOWED, "This address does not serve that method."),
}
_ANY_OTHER = (ProblemType.MALFORMED_REQUEST, "The request cannot be read as what it says it is.")


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework itself refuses, in the same shape as our own refusals."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, Problem):
        return problem_response(error.__cause__)
    problem = Problem(*_BY_STATUS.get(HTTPStatus(error.status_code), _ANY_OTHER), headers=error.headers)
    if problem.type is ProblemType.METHOD_NOT_ALLOWED:
        problem.headers["Allow"] = ", ".join(_allowed(request.scope))
    return problem_response(problem)


def _allowed(scope: Scope) -> list[str]:
    """Every method that the address serves (RFC 9110, section 15.5.6): FastAPI names those of one route only."""
    methods = [method for method in _METHODS if _is_served(scope, method)]
    return ["HEAD", *methods] if "GET" in methods and "HEAD" not in methods else methods
