"""The spans of requests that a room makes (https://opentelemetry.io/docs/specs/semconv/http/http-spans/#http-client).

Made from the signals of aiohttp, so that the code that makes a request need not know. Such a span ends when the headers
of the answer are there.
"""

from types import SimpleNamespace

from aiohttp import (
    ClientSession,
    TraceConfig,
    TraceRequestEndParams,
    TraceRequestExceptionParams,
    TraceRequestStartParams,
)
from opentelemetry.trace import INVALID_SPAN, SpanKind, Tracer
from yarl import URL

from shared.health import QUIET_PATHS
from shared.ids import is_id
from shared.tracing import spans

_CLIENT_ERROR = 400


def client_spans(*, propagate: bool) -> list[TraceConfig]:
    """What a `ClientSession` needs to trace its requests; nothing while tracing is off.

    `propagate` tells the other side of the trace. A request's `trace_request_ctx` may hold more attributes.
    """
    maker = spans.tracer()
    return [] if maker is None else [_trace_config(maker, propagate=propagate)]


def _trace_config(maker: Tracer, *, propagate: bool) -> TraceConfig:
    async def begin(_session: ClientSession, request: SimpleNamespace, params: TraceRequestStartParams) -> None:
        request.span = INVALID_SPAN
        if params.url.path in QUIET_PATHS:
            return
        template = _template(params.url)
        attributes = {**_attributes(params.method, params.url, template), **(request.trace_request_ctx or {})}
        request.span = maker.start_span(f"{params.method} {template}", kind=SpanKind.CLIENT, attributes=attributes)
        if propagate:
            spans.inject(params.headers, request.span)

    async def end(_session: ClientSession, request: SimpleNamespace, params: TraceRequestEndParams) -> None:
        status = params.response.status
        request.span.set_attribute("http.response.status_code", status)
        if status >= _CLIENT_ERROR:
            spans.fail(request.span, str(status))
        request.span.end()

    async def broken(_session: ClientSession, request: SimpleNamespace, params: TraceRequestExceptionParams) -> None:
        spans.fail(request.span, spans.error_type(params.exception))
        request.span.end()

    config = TraceConfig()
    config.on_request_start.append(begin)
    config.on_request_end.append(end)
    config.on_request_exception.append(broken)
    return config


def _attributes(method: str, url: URL, template: str) -> dict[str, str | int]:
    """Without user, password and query: they are no names of anything, and may be secret or personal."""
    return {
        "http.request.method": method,
        "server.address": url.host or "",
        "server.port": url.port or 0,
        "url.full": str(url.origin().with_path(url.path)),
        "url.template": template,
    }


def _template(url: URL) -> str:
    """The path with `{id}` for each id: span names must be few."""
    return "/".join("{id}" if is_id(part) else part for part in url.path.split("/"))
