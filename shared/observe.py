"""Logs: one record, one line. JSON for machines, colours on a terminal; the correlation id is on every line.

Nothing logged at INFO holds an e-mail address, a file's content or a token. (Not called `logging.py`: it would shadow
the standard library for a module run by its path.)
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars
from structlog.typing import Processor

from shared.metrics import LOG_RECORDS_LOST

CORRELATION_HEADER = "X-Correlation-ID"
"""Request and response header. The same id is on the event (`correlationid`) and on every log line of the way."""

CHATTY_LOGGERS = ("aiormq", "aio_pika", "python_multipart")
"""Libraries that log with a stack what they also raise, and what we then say in one line."""

_stack_without_values = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
"""Frames without their local variables: those hold passwords, tokens and addresses."""


def configure_logs(service: str, level: str, style: str, *more: Processor) -> None:
    """Route our own logs and those of every library to stdout in one style (`json`, `pretty`, or `auto`).

    `more` may add to each record.
    """
    number = logging.getLevelNamesMapping()[level]
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _named(service),
        *more,
    ]
    pretty = style == "pretty" or (style == "auto" and sys.stdout.isatty())
    render: list[Processor] = _pretty() if pretty else _json()
    structlog.configure(
        processors=[*common, *render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_Writer,
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, _keep_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for chatty in CHATTY_LOGGERS:
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


def begin_correlation(correlation_id: str, **more: str) -> None:
    """Start a fresh log context for one request or one message."""
    clear_contextvars()
    bind_contextvars(correlation_id=correlation_id, **more)


def correlation_id() -> str | None:
    """The correlation id of the work at hand, if any."""
    found = get_contextvars().get("correlation_id")
    return str(found) if found is not None else None


class _Writer(structlog.WriteLogger):
    """Writes to stdout, and goes on where that cannot be written to: a lead that is kept is a 201, said or unsaid."""

    def __init__(self, *_: Any) -> None:
        super().__init__(sys.stdout)

    def msg(self, message: str) -> None:
        """One line, or none and the metric that says so."""
        try:
            super().msg(message)
        except OSError:
            LOG_RECORDS_LOST.inc()

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


class _Handler(logging.StreamHandler[TextIO]):
    """Likewise for the records of libraries."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Called with the error at hand."""
        if isinstance(sys.exception(), OSError):
            LOG_RECORDS_LOST.inc()
        else:
            super().handleError(record)


def _named(service: str) -> Processor:
    def add(_logger: Any, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        record["service"] = service
        return record

    return add


def _keep_logger_name(_logger: Any, _method: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    origin = record.get("_record")
    if origin is not None:
        record["logger"] = origin.name
    return record


def _json() -> list[Processor]:
    return [_stack_without_values, structlog.processors.JSONRenderer()]


def _pretty() -> list[Processor]:
    return [
        structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), pad_event_to=28, exception_formatter=structlog.dev.plain_traceback
        )
    ]
