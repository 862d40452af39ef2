"""The span of a request that a room answers (https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-server).

`url.path` and `url.query`, which those conventions ask for, are left out: a stranger writes the one, and the staff
search for addresses with the other. The route and our own ids say the same without it.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Tracer
from starlette.datastructures import Headers
from starlette.types import Scope

from shared.tracing import spans

_KNOWN_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"})
_SERVER_ERROR = 500

NO_ROUTE = "none"
"""Stands for the route of a request that none takes."""


class ServerSpan:
    """One request's span, and what is learned of the request on its way."""

    def __init__(self, span: Span, method: str) -> None:
        self._span = span
        self._method = method
        self._failed = False

    def answered(self, route: str, status: int, **facts: str | int) -> None:
        """How it ended. `facts` are those of its log line, and so are fit to be seen. Status 0: the client was gone.

        A refusal is the caller's failure and not ours: only a 5xx fails the span.
        """
        if not self._span.is_recording():
            return
        self._span.set_attributes({f"leads.{name}": value for name, value in facts.items()})
        if route != NO_ROUTE:
            self._span.update_name(f"{self._method} {route}")
            self._span.set_attribute("http.route", route)
        if status:
            self._span.set_attribute("http.response.status_code", status)
        if status >= _SERVER_ERROR and not self._failed:
            spans.fail(self._span, str(status))

    def failed(self, error: BaseException) -> None:
        """What broke it, which says more than the status that follows."""
        self._failed = True
        spans.fail(self._span, spans.error_type(error))


NOT_SERVING: AbstractContextManager[ServerSpan] = nullcontext(ServerSpan(INVALID_SPAN, ""))


def serving(scope: Scope) -> AbstractContextManager[ServerSpan]:
    """The request's span, under the one that its `traceparent` names."""
    maker = spans.tracer()
    return NOT_SERVING if maker is None else _serving(maker, scope)


@contextmanager
def _serving(maker: Tracer, scope: Scope) -> Iterator[ServerSpan]:
    method = scope["method"] if scope["method"] in _KNOWN_METHODS else "_OTHER"
    name = "HTTP" if method == "_OTHER" else method
    attributes = {"http.request.method": method, "url.scheme": scope["scheme"]}
    parent = spans.parent_in(Headers(scope=scope))
    with spans.running(maker, name, SpanKind.SERVER, attributes, parent=parent) as span:
        yield ServerSpan(span, name)
