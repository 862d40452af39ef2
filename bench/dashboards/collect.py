"""Asks Prometheus what the panels of a dashboard ask, as Grafana would."""

import math
from dataclasses import dataclass

from tests.harness.dashboards import Panel, Query, dashboard, panels
from tests.harness.prometheus import Prometheus

STEP_SECONDS = 2
RATE_INTERVAL = "8s"
"""Grafana takes four scrape intervals at least; the private Prometheus asks every second, so this is ample."""


@dataclass(frozen=True)
class Span:
    """What the drawing shows, in seconds since the epoch."""

    start: float
    end: float


@dataclass(frozen=True)
class Line:
    """One series: its legend, and its points (instant, value). A gap is an instant that is missing."""

    name: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Shown:
    """What each panel found, by its id, and when which alert began to fire."""

    lines: dict[int, list[Line]]
    alerts: list[tuple[float, str]]


async def shown(seen: Prometheus, name: str, span: Span) -> Shown:
    """Everything that the dashboard would show of this span."""
    lines = {panel.about["id"]: await _lines(seen, panel, span) for panel in panels(name)}
    (annotation,) = dashboard(name)["annotations"]["list"]
    fired = await _asked(seen, Query(annotation["expr"], annotation["titleFormat"]), span)
    return Shown(lines, [(line.points[0][0], line.name) for line in fired])


async def _lines(seen: Prometheus, panel: Panel, span: Span) -> list[Line]:
    found = [line for query in panel.queries for line in await _asked(seen, query, span)]
    if panel.kind == "timeseries":
        return found
    return [Line(line.name, line.points[-1:]) for line in found if span.end - line.points[-1][0] < 2 * STEP_SECONDS]


async def _asked(seen: Prometheus, query: Query, span: Span) -> list[Line]:
    results = await seen.query_range(
        query.over(RATE_INTERVAL), start=span.start, end=span.end, step_seconds=STEP_SECONDS
    )
    lines = []
    for result in results:
        points = [(float(at), float(value)) for at, value in result["values"]]
        numbers = [(at, value) for at, value in points if math.isfinite(value)]
        if numbers:
            lines.append(Line(query.named(result["metric"]), numbers))
    return sorted(lines, key=lambda line: line.name) if "{{" in query.legend else lines
