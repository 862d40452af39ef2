"""A collector for traces: a real OTLP/HTTP server that keeps what it is sent, decoded, for a test to look at."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as OtlpSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

AT_ONCE = {"OTEL_BSP_SCHEDULE_DELAY": "50"}
"""The setting that makes rooms deliver spans every 50 ms and not every 5 s."""


@dataclass(frozen=True)
class Seen:
    """One span as it arrived. `parent_id` is empty for the first of a trace."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    failed: bool
    attributes: dict[str, Any]
    everything: str
    """All of it as text, for a look at what must not be there."""


class Collector:
    """The server, on a free port. `headers` are those of the last request."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.headers: dict[str, str] = {}
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @property
    def endpoint(self) -> str:
        """What `LEADS_OTLP_ENDPOINT` should be."""
        assert self._runner is not None
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    @property
    def settings(self) -> dict[str, str]:
        """What a deployment needs to send its traces here, soon."""
        return {"LEADS_OTLP_ENDPOINT": self.endpoint, **AT_ONCE}

    async def wait_for(self, wanted: Callable[[Seen], bool], count: int, *, seconds: float = 15.0) -> list[Seen]:
        """At least `count` spans of that kind. Fails when they do not come in time."""
        deadline = time.monotonic() + seconds
        while True:
            found = [span for span in self.spans if wanted(span)]
            if len(found) >= count:
                return found
            if time.monotonic() > deadline:
                names = [(span.service, span.name) for span in self.spans]
                raise AssertionError(f"only {len(found)} of {count} spans after {seconds} s; all that came: {names}")
            await asyncio.sleep(0.05)

    async def _take(self, request: web.Request) -> web.Response:
        self.headers = dict(request.headers)
        for resource in ExportTraceServiceRequest.FromString(await request.read()).resource_spans:
            service = str(_plain(resource.resource.attributes)["service.name"])
            self.spans += [_seen(service, span) for scope in resource.scope_spans for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")


def _seen(service: str, span: OtlpSpan) -> Seen:
    return Seen(
        service=service,
        name=span.name,
        kind=OtlpSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        attributes=_plain(span.attributes),
        everything=str(span),
    )


def _plain(attributes: Any) -> dict[str, Any]:
    found: list[KeyValue] = list(attributes)
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in found}
