"""What the chaos tests found, gathered over the whole run and told at its end: a verdict table, and promised figures.

The words are those of Jepsen's queue tests (https://github.com/jepsen-io/jepsen, `checker/total-queue`): what was
attempted, what was acknowledged, what of it is lost, and what is there though nobody was told so.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.checker import Attempt, Facts, Finding, Verdict


@dataclass(frozen=True)
class Line:
    """The verdict on one scenario. Leads are counted by their address, since one may be attempted several times."""

    size: str
    scenario: str
    attempts: int
    acknowledged: int
    recovered: int
    """There, whole, though nobody was told: the answer was lost, and the client gave up."""
    unknown: int
    """Not there, and nobody was told anything: the client gave up."""
    faults: int
    found: Mapping[Verdict, int]
    seconds: float
    """From the end of the load and the fault's healing until everything was at rest."""


@dataclass(frozen=True)
class Figure:
    """A figure of the promise, as it was asked for and as it was measured."""

    size: str
    promise: str
    target: str
    measured: str


@dataclass
class Verdicts:
    """All of one run of the tests."""

    lines: list[Line] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)

    def tables(self) -> list[str]:
        """Markdown tables: one for each size, and one of the figures. Empty without anything to tell."""
        sizes = dict.fromkeys(line.size for line in self.lines)
        parts = [_scenarios(size, [line for line in self.lines if line.size == size]) for size in sizes]
        return [*parts, _figures(self.figures)] if self.figures else parts


def line_of(
    size: str,
    scenario: str,
    ledger: Sequence[Attempt],
    facts: Facts,
    findings: Iterable[Finding],
    *,
    faults: int,
    seconds: float,
) -> Line:
    """The verdict on the scenario in which clients did what `ledger` has. `facts` and `findings` are of everything."""
    acknowledged = {attempt.email for attempt in ledger if attempt.status == 201}
    unanswered = {attempt.email for attempt in ledger if attempt.status is None} - acknowledged
    there = {lead.email for lead in facts.leads}
    return Line(
        size=size,
        scenario=scenario,
        attempts=len(ledger),
        acknowledged=len(acknowledged),
        recovered=len(unanswered & there),
        unknown=len(unanswered - there),
        faults=faults,
        found=Counter(finding.verdict for finding in findings),
        seconds=seconds,
    )


def _scenarios(size: str, lines: Sequence[Line]) -> str:
    head = ["scenario", "faults", "attempts", "acknowledged", "recovered", "unknown", *Verdict, "at rest after"]
    rows = [
        [
            line.scenario,
            *map(str, (line.faults, line.attempts, line.acknowledged, line.recovered, line.unknown)),
            *(str(line.found.get(verdict, 0)) for verdict in Verdict),
            f"{line.seconds:.1f} s",
        ]
        for line in lines
    ]
    sums = [sum(int(row[column]) for row in rows) for column in range(1, len(head) - 1)]
    return f"{size}\n\n" + _markdown(head, [*rows, ["all", *map(str, sums), ""]])


def _figures(figures: Sequence[Figure]) -> str:
    rows = [[figure.promise, figure.size, figure.target, figure.measured] for figure in figures]
    return "figures\n\n" + _markdown(["promise", "size", "target", "measured"], rows)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in [head, ["-" * width for width in widths], *rows]
    ]
    return "\n".join(lines)
