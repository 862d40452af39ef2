"""`/healthz` (the process answers), `/readyz` (its dependencies do), `/metrics`: the same three doors in every room."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

CACHE_SECONDS = 1.0
"""Probes come often and from many sides; dependencies are asked at most this often."""

CHECK_TIMEOUT_SECONDS = 2.0

QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Probes are neither logged nor traced: they would drown what people do."""

STOPPING = "leads.stopping"
"""In the ASGI state of each request from when on the room is about to stop."""

Check = Callable[[], Awaitable[None]]
"""Returns when the dependency is fine; raises, with a message for ops, when it is not."""


@dataclass
class Health:
    """Named checks. A failing `required` one makes the room unready; an `optional` one is only reported.

    What a room can do without is optional: the api accepts leads while the broker is away, so it stays ready.
    """

    required: Mapping[str, Check]
    optional: Mapping[str, Check] = field(default_factory=dict)
    _seen_at: float = -CACHE_SECONDS
    _seen: tuple[bool, dict[str, str]] = (False, {})

    async def look(self) -> tuple[bool, dict[str, str]]:
        """Whether the room is ready, and each check's state (`ok` or what is wrong)."""
        if time.monotonic() - self._seen_at < CACHE_SECONDS:
            return self._seen
        names = [*self.required, *self.optional]
        states = await asyncio.gather(*(_state({**self.required, **self.optional}[name]) for name in names))
        report = dict(zip(names, states, strict=True))
        ready = all(report[name] == "ok" for name in self.required)
        if ready:  # what is not ready yet may be within a moment
            self._seen, self._seen_at = (ready, report), time.monotonic()
        return ready, report


def health_routes(health: Health) -> APIRouter:
    """The three doors."""
    router = APIRouter(include_in_schema=False)

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz")
    async def readyz(request: Request) -> JSONResponse:
        ready, report = await health.look()
        if STOPPING in request.scope["state"]:
            ready, report = False, {**report, "room": "about to stop"}
        body = {"status": "ready" if ready else "not ready", "checks": report}
        return JSONResponse(body, status_code=200 if ready else 503)

    @router.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


async def _state(check: Check) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_SECONDS:.0f} s"
    except Exception as error:  # noqa: BLE001 - whatever is wrong is what ops want to read
        return str(error) or type(error).__name__
    return "ok"
