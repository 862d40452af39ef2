"""How results are shown: as Markdown on the terminal, and, when asked, as docs/performance.md.

docs/performance.json keeps the results of each part, with the machine that they come from, so that a part can be
measured again by itself; the page is made from it and from nothing else.
"""

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from bench.figures import Figure, Result, Table, Verdict

DOCS = Path(__file__).resolve().parents[1] / "docs"
GIB = 1024**3

_HEAD = """\
# Performance

Written by `make bench ARGS=--write`: do not edit. Each part is measured in one run, with the load generator on the same
cores; what counts is the ratio to the peers and floors of that run, since absolute figures drift from machine to
machine. Every accepted lead was looked up afterwards: none lacked its row, resume, event or e-mails. Why what is missed
is missed, and what would change it: [0017](decisions/0017-where-the-time-goes.md#what-is-missed-and-why).
"""


@dataclass(frozen=True)
class Measured:
    """The result of one part, and what it comes from."""

    command: str
    machine: str
    day: str
    result: Result


def measured(command: str, result: Result) -> Measured:
    """The result, on this machine, today."""
    return Measured(command, machine(), datetime.now(UTC).date().isoformat(), result)


def machine() -> str:
    """What the figures depend on, and nothing that names this machine."""
    memory = psutil.virtual_memory().total / GIB
    return f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """As Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def summary(parts: Iterable[Measured]) -> str:
    """All figures in one table, each with its target, its verdict and the command that measures it."""
    columns = ("what", "target", "measured", "ratio", "verdict", "command")
    rows = (_row(figure, part.command) for part in parts for figure in part.result.figures)
    return markdown_table(columns, rows)


def details(part: Measured) -> str:
    """How one part was measured, and its tables."""
    result = part.result
    tables = "".join(f"\n**{table.title}**\n\n{markdown_table(table.columns, table.rows)}" for table in result.tables)
    return f"{result.about}\n{tables}"


def page(parts: Mapping[str, Measured]) -> str:
    """All of docs/performance.md."""
    sections = "".join(
        f"\n## {name.capitalize()}\n\n`{part.command}`, {part.day}, on {part.machine}.\n\n{details(part)}"
        for name, part in parts.items()
    )
    return f"{_HEAD}\n{summary(parts.values())}{sections}"


def write(parts: Mapping[str, Measured], order: Sequence[str], docs: Path = DOCS) -> None:
    """Put these parts into the place of what was known of them; the others stay. `order` is that of the page."""
    known = {**load(docs), **parts}
    kept = {name: known[name] for name in order if name in known}
    text = json.dumps({name: asdict(part) for name, part in kept.items()}, indent=1, ensure_ascii=False)
    (docs / "performance.json").write_text(f"{text}\n")
    (docs / "performance.md").write_text(page(kept))


def load(docs: Path = DOCS) -> dict[str, Measured]:
    """What was written before, by part; nothing when nothing was."""
    file = docs / "performance.json"
    return {name: _part(part) for name, part in json.loads(file.read_text()).items()} if file.exists() else {}


def _part(given: dict[str, Any]) -> Measured:
    result = given.pop("result")
    figures = tuple(Figure(**{**one, "verdict": Verdict(one["verdict"])}) for one in result["figures"])
    tables = tuple(
        Table(one["title"], tuple(one["columns"]), tuple(tuple(row) for row in one["rows"])) for one in result["tables"]
    )
    return Measured(**given, result=Result(result["about"], figures, tables))


def _row(figure: Figure, command: str) -> tuple[str, ...]:
    return figure.what, figure.target, figure.measured, figure.ratio, figure.verdict, f"`{command}`"


def _cell(text: str) -> str:
    return text.replace("|", r"\|")
