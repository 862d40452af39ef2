"""Spans on their way to a collector, by OTLP over HTTP. Loaded only where `LEADS_OTLP_ENDPOINT` is set.

In batches, from a thread of their own, out of a queue that drops what it cannot hold: a collector that is slow or away
costs spans and one log line, and never a lead. How much and how often is said by OpenTelemetry's own variables.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from threading import Thread
from urllib.parse import urlsplit

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.util.re import parse_env_headers

from shared.settings import SettingsError
from shared.tracing.spans import turn_off, turn_on

FLUSH_SECONDS = 1.0
"""How long a stop waits for the last spans: with the 8 s for what is in hand, and the half second in which a bus that
hangs is closed, less than the 10 s after which a supervisor kills."""

_PATH = "/v1/traces"  # https://opentelemetry.io/docs/specs/otlp/#otlphttp-request
_NOISY_LOGGERS = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")

_SETTING = "LEADS_OTLP_ENDPOINT"

log = structlog.get_logger()


def start(service: str, endpoint: str, headers: str | None) -> Callable[[], None]:
    """Turn tracing on; returns what turns it off and sends what is left, within `FLUSH_SECONDS`.

    `endpoint` is the collector's address, to which the path is added; `headers` is `name=value,name=value`. Raises
    `SettingsError` for what cannot work. The provider is not made the global one: FastAPI would begin to trace, too.
    """
    _check(endpoint, headers or "")
    trouble = _Trouble()
    try:
        exporter = _Exporter(
            trouble,
            endpoint=endpoint.rstrip("/") + _PATH,
            headers=parse_env_headers(headers, liberal=True) if headers else None,
        )
        provider = TracerProvider(
            resource=Resource.create({"service.name": f"leads-{service}", "service.namespace": "leads"}),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(BatchSpanProcessor(exporter))
    except ValueError as error:
        raise SettingsError(f"{_SETTING} is set, and an OTEL_ variable cannot work: {error}") from None
    trouble.listen()
    turn_on(provider.get_tracer("leads"))

    def stop() -> None:
        turn_off()
        if trouble.reason is not None:
            exporter.shutdown()  # type: ignore[no-untyped-call]  # which ends its waiting for one that is away
        flushing = Thread(target=provider.shutdown, daemon=True)
        flushing.start()
        flushing.join(FLUSH_SECONDS)
        if flushing.is_alive():
            log.warning("the last traces were not delivered in time", seconds=FLUSH_SECONDS, setting=_SETTING)

    return stop


def _check(endpoint: str, headers: str) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError(f"{_SETTING} must be the address of a collector, as in http://collector:4318.")
    if not all("=" in header for header in headers.split(",") if header.strip()):
        # The library would log what it cannot read, and that may be a key.
        raise SettingsError("OTEL_EXPORTER_OTLP_HEADERS must be name=value, several of them with commas.")


class _Trouble(logging.Handler):
    """Takes what the library logs of each failed batch, and says it once."""

    def __init__(self) -> None:
        super().__init__()
        self.reason: str | None = None

    def listen(self) -> None:
        """From now on the library's own lines come here and nowhere else."""
        for name in _NOISY_LOGGERS:
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        began = self.reason is None
        self.reason = record.getMessage()
        if began:
            log.warning("traces are not delivered, nothing else is affected", reason=self.reason, setting=_SETTING)

    def over(self) -> None:
        """A batch was taken."""
        if self.reason is not None:
            self.reason = None
            log.info("traces are delivered again")


class _Exporter(OTLPSpanExporter):
    """Tells when the collector took a batch."""

    def __init__(self, trouble: _Trouble, *, endpoint: str, headers: Mapping[str, str] | None) -> None:
        super().__init__(endpoint=endpoint, headers=headers)
        self._trouble = trouble

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            self._trouble.over()
        return result
