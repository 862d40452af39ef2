"""A dashboard as SVG: its grid, titles, lines and numbers. Knows panels and lines; asks nobody."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from bench.dashboards.collect import Line, Shown, Span
from bench.dashboards.plot import Box, plot
from bench.dashboards.units import written

WIDTH, COLUMNS, UNIT, GAP, HEAD = 1200, 24, 33, 8, 64
BACKGROUND, PANEL, BORDER, TEXT, FAINT = "#111217", "#181b1f", "#2c3235", "#d8d9da", "#9fa7b3"
FONTS = "Inter, Helvetica, Arial, sans-serif"
COLOURS = {"green": "#37872d", "orange": "#e0752d", "red": "#c4162a", "blue": "#1f60c4"}


def draw(model: dict[str, Any], found: Shown, span: Span) -> str:
    """The whole picture."""
    height = HEAD + max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in model["panels"]) * UNIT + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="{FONTS}" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="{BACKGROUND}"/>',
        _text(GAP + 6, 28, model["title"], 20, TEXT, weight=600),
        _text(GAP + 6, 50, model["description"], 13, FAINT),
        _text(WIDTH - GAP - 6, 28, "Drawn from the dashboard's own queries", 13, FAINT, anchor="end"),
    ]
    for panel in model["panels"]:
        parts += _panel(panel, found, span)
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: dict[str, Any], found: Shown, span: Span) -> Iterator[str]:
    box = _box(panel["gridPos"])
    if panel["type"] == "row":
        yield _text(box.x + 6, box.y + box.height - 8, f"⌄  {panel['title']}", 15, TEXT, weight=600)
        return
    yield (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="3" fill="{PANEL}"'
        f' stroke="{BORDER}"/>'
    )
    lines = found.lines[panel["id"]]
    if panel["type"] == "stat":
        yield from _stat(panel, lines, box)
    yield _text(box.x + 10, box.y + 20, panel["title"], 13, TEXT, weight=600)
    if panel["type"] == "timeseries":
        yield from plot(panel, lines, box, span, found.alerts)
    if panel["type"] == "bargauge":
        yield from _bars(panel, lines, box)


def _box(grid: dict[str, int]) -> Box:
    column = (WIDTH - GAP) / COLUMNS
    return Box(
        round(GAP + grid["x"] * column),
        HEAD + grid["y"] * UNIT,
        round(grid["w"] * column - GAP),
        grid["h"] * UNIT - GAP,
    )


@dataclass(frozen=True)
class _Said:
    """What a stat says, on which colour."""

    text: str
    colour: str


def _stat(panel: dict[str, Any], lines: list[Line], box: Box) -> Iterator[str]:
    """Its colour fills the panel, as Grafana's `colorMode: background` does; several values share the height."""
    said = [_said(panel, line) for line in lines]
    said = said or [_Said(panel["fieldConfig"]["defaults"].get("noValue", "No data"), BORDER)]
    top, height = box.y + 28, (box.height - 34) / len(said)
    fill = said[0].colour
    yield f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="3" fill="{fill}"/>'
    size = min(34, int(height * 0.72), int(1.6 * (box.width - 20) / max(len(one.text) for one in said)))
    for number, one in enumerate(said):
        y = round(top + height * (number + 0.5) + size * 0.3)
        yield _text(box.x + box.width // 2, y, one.text, size, "#ffffff", weight=600, anchor="middle")


def _said(panel: dict[str, Any], line: Line) -> _Said:
    defaults = panel["fieldConfig"]["defaults"]
    value = line.points[-1][1]
    for mapping in defaults["mappings"]:
        option = mapping["options"].get(f"{value:g}")
        if option:
            return _Said(option["text"], COLOURS[option["color"]])
    steps = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or value >= step["value"]]
    shown_as_name = panel["options"]["textMode"] == "name"
    value = round(value, defaults.get("decimals", 3))
    return _Said(line.name if shown_as_name else written(value, defaults["unit"]), COLOURS[steps[-1]["color"]])


def _bars(panel: dict[str, Any], lines: list[Line], box: Box) -> Iterator[str]:
    highest = max((line.points[-1][1] for line in lines), default=0) or 1
    height = (box.height - 40) / max(1, len(lines))
    left, width = box.x + 84, box.width - 84 - 60
    for number, line in enumerate(lines):
        y, value = round(box.y + 32 + height * number), line.points[-1][1]
        middle = round(y + height / 2) + 4
        yield _text(left - 8, middle, line.name, 12, FAINT, anchor="end")
        thick = round(height * 0.6)
        for share, fill in ((1.0, BORDER), (value / highest, COLOURS["blue"])):
            yield (
                f'<rect x="{left}" y="{round(y + height * 0.2)}" width="{round(width * share)}" height="{thick}"'
                f' rx="2" fill="{fill}"/>'
            )
        yield _text(left + width + 8, middle, written(value, panel["fieldConfig"]["defaults"]["unit"]), 12, TEXT)


def _text(x: float, y: float, text: str, size: int, fill: str, *, weight: int = 400, anchor: str = "start") -> str:
    more = (f' font-weight="{weight}"' if weight != 400 else "") + (
        f' text-anchor="{anchor}"' if anchor != "start" else ""
    )
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{fill}"{more}>{escape(text)}</text>'
