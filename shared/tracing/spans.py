"""A span: begun under its parent, current while its block runs, failed with the type of what went through it.

Nothing is imported here but OpenTelemetry's API, which FastAPI loads in any case.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACEPARENT = "traceparent"
"""Header of requests and messages, and attribute of events (https://www.w3.org/TR/trace-context/#traceparent-header)."""

Attributes = Mapping[str, str | int]

NOTHING: AbstractContextManager[Span] = nullcontext(INVALID_SPAN)
"""The span of whatever is not traced: it takes everything and keeps nothing."""

_W3C = TraceContextTextMapPropagator()  # and no baggage: what a stranger puts there is not for our rooms


class _Switch:
    """The one thing of a process that decides about tracing, as structlog's configuration does about logs."""

    tracer: Tracer | None = None


def turn_on(tracer: Tracer) -> None:
    """From now on spans are made by `tracer`."""
    _Switch.tracer = tracer


def turn_off() -> None:
    """From now on none are."""
    _Switch.tracer = None


def tracer() -> Tracer | None:
    """Who makes spans; None while tracing is off."""
    return _Switch.tracer


def step(name: str) -> AbstractContextManager[Span]:
    """A step inside of a room, under the current span. `name` is one of few: no id belongs into it."""
    maker = _Switch.tracer
    return NOTHING if maker is None else running(maker, name, SpanKind.INTERNAL, {})


@contextmanager
def running(
    maker: Tracer, name: str, kind: SpanKind, attributes: Attributes, *, parent: Context | None = None
) -> Iterator[Span]:
    """A span that is the current one until the block ends; under the current one unless a `parent` is given."""
    with (
        maker.start_as_current_span(
            name,
            context=parent,
            kind=kind,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span,
        failing(span),
    ):
        yield span


@contextmanager
def failing(span: Span) -> Iterator[None]:
    """Whatever goes through this block fails the span."""
    try:
        yield
    except BaseException as error:
        fail(span, error_type(error))
        raise


def fail(span: Span, kind: str) -> None:
    """The span ends as a failure of that `kind`, which is a class or a status: there must be few.

    As https://opentelemetry.io/docs/specs/semconv/general/recording-errors/ says, but without the message.
    """
    span.set_attribute("error.type", kind)
    span.set_status(StatusCode.ERROR)


def error_type(error: BaseException) -> str:
    """The class, in full unless it is a built-in one."""
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def parent_in(headers: Mapping[str, str]) -> Context:
    """What the sender's headers say the parent is; no parent when they say nothing, or what cannot be read."""
    return _W3C.extract(headers)


def inject(headers: MutableMapping[str, str], span: Span) -> None:
    """Name the span as the parent of whatever the receiver does."""
    _W3C.inject(headers, set_span_in_context(span))


def traceparent() -> str | None:
    """The current span as a `traceparent`; None while there is none."""
    headers: dict[str, str] = {}
    if _Switch.tracer is not None:
        _W3C.inject(headers)
    return headers.get(TRACEPARENT)


def name_trace(_logger: Any, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: puts the current trace on a log line."""
    return {**_names(get_current_span().get_span_context()), **record}


def named_in(headers: Mapping[str, str]) -> dict[str, str]:
    """The same for a line about a message, of whose trace no span is current."""
    return {} if _Switch.tracer is None else _names(get_current_span(parent_in(headers)).get_span_context())


def _names(context: SpanContext) -> dict[str, str]:
    """As https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/ names them."""
    if not context.is_valid:
        return {}
    return {"trace_id": format_trace_id(context.trace_id), "span_id": format_span_id(context.span_id)}
