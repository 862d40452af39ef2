"""One time series panel: axes, lines, legend, and a mark where an alert began to fire."""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from bench.dashboards.collect import STEP_SECONDS, Line, Span
from bench.dashboards.units import ticks, written

PALETTE = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#fade2a", "#96d98d", "#ffa6b0")
GRID, FAINT, ALERT = "#2c3235", "#9fa7b3", "#f2495c"
LETTER, KEY, LEGEND_LINE = 6.6, 30, 17
MARK_SECONDS, MARK_PIXELS = (30, 60, 120, 300), 60


@dataclass(frozen=True)
class Box:
    """A rectangle, in pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Scale:
    """Where instants and values lie in a box."""

    box: Box
    span: Span
    low: float
    high: float

    def x(self, at: float) -> float:
        return round(self.box.x + (at - self.span.start) / (self.span.end - self.span.start) * self.box.width, 1)

    def y(self, value: float) -> float:
        share = (min(value, self.high) - self.low) / (self.high - self.low)
        return round(self.box.y + self.box.height * (1 - share), 1)


def plot(
    panel: dict[str, Any], lines: list[Line], box: Box, span: Span, alerts: list[tuple[float, str]]
) -> Iterator[str]:
    """All of the panel below its title."""
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    layers = _stacked(lines) if "stacking" in custom else lines
    legend = _legend([line.name for line in lines], box.width - 24)
    inner = Box(box.x + 66, box.y + 34, box.width - 84, box.height - 34 - 30 - LEGEND_LINE * len(legend))
    highest = max((value for line in layers for _, value in line.points), default=1.0)
    marks = ticks(defaults["min"], defaults.get("max", highest or 1.0), defaults["unit"])
    scale = Scale(inner, span, marks[0], marks[-1])
    yield from _axes(scale, marks, defaults["unit"])
    for at, _name in alerts:
        yield f'<path d="M{scale.x(at)} {inner.y}V{inner.y + inner.height}" stroke="{ALERT}" stroke-dasharray="4 3"/>'
    for number, line in reversed(list(enumerate(layers))):
        yield from _drawn(line, scale, PALETTE[number % len(PALETTE)], custom)
    yield from _legend_drawn(legend, box)


def _axes(scale: Scale, marks: list[float], unit: str) -> Iterator[str]:
    box = scale.box
    for mark in marks:
        y = scale.y(mark)
        yield f'<path d="M{box.x} {y}h{box.width}" stroke="{GRID}"/>'
        label = escape(written(mark, unit))
        yield f'<text x="{box.x - 6}" y="{y + 4}" font-size="11" text-anchor="end" fill="{FAINT}">{label}</text>'
    pixels_per_second = box.width / (scale.span.end - scale.span.start)
    every = next((every for every in MARK_SECONDS if every * pixels_per_second > MARK_PIXELS), MARK_SECONDS[-1])
    at = scale.span.start - scale.span.start % every + every
    while scale.x(at) < box.x + box.width - 16:
        clock = time.strftime("%H:%M:%S", time.gmtime(at))
        x, y = scale.x(at), box.y + box.height
        yield f'<path d="M{x} {box.y}V{y}" stroke="{GRID}"/>'
        yield f'<text x="{x}" y="{y + 16}" font-size="11" text-anchor="middle" fill="{FAINT}">{clock}</text>'
        at += every


def _drawn(line: Line, scale: Scale, colour: str, custom: dict[str, Any]) -> Iterator[str]:
    for piece in _unbroken(line.points):
        corners = _steps(piece) if custom.get("lineInterpolation") == "stepAfter" else piece
        path = "L".join(f"{scale.x(at)} {scale.y(value)}" for at, value in corners)
        left, right, floor = scale.x(piece[0][0]), scale.x(piece[-1][0]), scale.y(scale.low)
        opacity = custom["fillOpacity"] / 100
        yield f'<path d="M{left} {floor}L{path}L{right} {floor}Z" fill="{colour}" fill-opacity="{opacity}"/>'
        yield f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-linejoin="round"/>'


def _unbroken(points: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Where a point is missing, nothing was known, and the line has a gap."""
    pieces: list[list[tuple[float, float]]] = []
    for point in points:
        if pieces and point[0] - pieces[-1][-1][0] <= 1.5 * STEP_SECONDS:
            pieces[-1].append(point)
        else:
            pieces.append([point])
    return pieces


def _steps(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    corners = [points[0]]
    for (_, before), (at, value) in itertools.pairwise(points):
        corners += [(at, before), (at, value)] if value != before else [(at, value)]
    return corners


def _stacked(lines: list[Line]) -> list[Line]:
    floor: dict[float, float] = {}
    stacked = []
    for line in lines:
        for at, value in line.points:
            floor[at] = floor.get(at, 0.0) + value
        stacked.append(Line(line.name, [(at, floor[at]) for at, _ in line.points]))
    return stacked


def _legend(names: list[str], width: int) -> list[list[tuple[int, str]]]:
    """The names with their numbers, in as many rows as they need."""
    rows: list[list[tuple[int, str]]] = [[]]
    used = 0.0
    for number, name in enumerate(names):
        needed = KEY + LETTER * len(name)
        if rows[-1] and used + needed > width:
            rows.append([])
            used = 0.0
        rows[-1].append((number, name))
        used += needed
    return rows


def _legend_drawn(rows: list[list[tuple[int, str]]], box: Box) -> Iterator[str]:
    for row_number, row in enumerate(rows):
        x: float = box.x + 12
        y = box.y + box.height - 8 - LEGEND_LINE * (len(rows) - 1 - row_number)
        for number, name in row:
            colour = PALETTE[number % len(PALETTE)]
            yield f'<rect x="{x:.0f}" y="{y - 6}" width="12" height="4" rx="2" fill="{colour}"/>'
            yield f'<text x="{x + 17:.0f}" y="{y}" fill="#d8d9da">{escape(name)}</text>'
            x += KEY + LETTER * len(name)
