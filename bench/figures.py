"""What a part of the benchmark found: figures beside their targets, each with its verdict, and tables at length."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Verdict(StrEnum):
    """Whether a target is reached."""

    MET = "met"
    MISSED = "missed"
    REPORTED = "reported"
    """There is no target: the figure is for whoever wants to know."""


@dataclass(frozen=True)
class Figure:
    """One line of the summary. `ratio` is that of the measured figure to what it is held against."""

    what: str
    target: str
    measured: str
    ratio: str
    verdict: Verdict


@dataclass(frozen=True)
class Table:
    """What was measured, at length: a heading, the names of the columns, the rows as text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Result:
    """All that one part found. `about` says in a sentence or two how it was measured."""

    about: str
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...] = field(default_factory=tuple)


def at_least_share(what: str, ours: float, theirs: float, *, of: str, share: float, unit: str) -> Figure:
    """Ours must be at least `share` of theirs. `unit` follows the number, as in "leads/s"."""
    return _share(what, ours, theirs, f"≥ {share:.2g}× {of}", unit, met=theirs > 0 and ours >= share * theirs)


def at_most_share(what: str, ours: float, theirs: float, *, of: str, share: float, unit: str) -> Figure:
    """Ours must be at most `share` of theirs."""
    return _share(what, ours, theirs, f"≤ {share:.2g}× {of}", unit, met=theirs > 0 and ours <= share * theirs)


def at_least(what: str, measured: float, limit: float, unit: str) -> Figure:
    """Must reach the limit."""
    return _limit(what, measured, limit, f"≥ {limit:,g} {unit}", unit, met=measured >= limit)


def at_most(what: str, measured: float, limit: float, unit: str) -> Figure:
    """Must not go over the limit."""
    return _limit(what, measured, limit, f"≤ {limit:,g} {unit}", unit, met=measured <= limit)


def reported(what: str, measured: str) -> Figure:
    """There is no target."""
    return Figure(what, "reported", measured, "", Verdict.REPORTED)


def ratio(ours: float, theirs: float) -> str:
    """`1.25×`; a dash when there is nothing to divide by."""
    return f"{ours / theirs:.2f}×" if theirs > 0 else "—"


def number(value: float) -> str:
    """Three digits that count, no more: `1,234`, `45.6`, `0.12`."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """The median of the rounds, and the lowest and highest where there are several."""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} to {number(max(values))})"


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all do not exceed (nearest rank). Raises `ValueError` when there is none."""
    if not values:
        raise ValueError("no value was measured")
    ranked = sorted(values)
    rank = -int(-(share * len(ranked)) // 1)  # rounded up
    return ranked[min(max(rank, 1), len(ranked)) - 1]


def _share(what: str, ours: float, theirs: float, target: str, unit: str, *, met: bool) -> Figure:
    measured = f"{number(ours)} against {number(theirs)} {unit}"
    return Figure(what, target, measured, ratio(ours, theirs), Verdict.MET if met else Verdict.MISSED)


def _limit(what: str, measured: float, limit: float, target: str, unit: str, *, met: bool) -> Figure:
    verdict = Verdict.MET if met else Verdict.MISSED
    return Figure(what, target, f"{number(measured)} {unit}", ratio(measured, limit), verdict)
