"""What the doctor found, and how it is told: to a tired person at a terminal, or to a program."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from rich.console import Console
from rich.table import Table
from rich.text import Text


class State(StrEnum):
    """How bad it is. Only `FAILED` makes the command fail."""

    OK = "ok"
    SKIPPED = "skipped"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `mend` says what to do about it; neither text ever holds a secret."""

    check: str
    state: State
    found: str
    mend: str = ""


EXIT_FAILED = 1

_STYLES = {State.OK: "green", State.SKIPPED: "dim", State.WARNING: "yellow", State.FAILED: "bold red"}


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, State.OK, found)


def skipped(check: str, found: str) -> Finding:
    """It could not be looked at, which is no fault by itself."""
    return Finding(check, State.SKIPPED, found)


def warning(check: str, found: str, mend: str) -> Finding:
    """It works, and may not for long, or not as one thinks."""
    return Finding(check, State.WARNING, found, mend)


def failed(check: str, found: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(check, State.FAILED, found, mend)


def exit_status(findings: Sequence[Finding]) -> int:
    """0 when nothing failed, warnings or not; else 1."""
    return EXIT_FAILED if any(finding.state is State.FAILED for finding in findings) else 0


def print_json(findings: Sequence[Finding]) -> None:
    """One object: `ok`, and the `findings` as they were made."""
    document = {"ok": exit_status(findings) == 0, "findings": [asdict(finding) for finding in findings]}
    print(json.dumps(document, indent=2))


def print_table(findings: Sequence[Finding]) -> None:
    """A line each, what to do beneath it, and what it comes to as the last line."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("state", "check"):
        table.add_column(column, no_wrap=True)
    table.add_column("found", overflow="fold")
    for finding in findings:
        told = Text(finding.found)
        if finding.mend:
            told.append(f"\n-> {finding.mend}", style="bold")
        table.add_row(Text(finding.state, style=_STYLES[finding.state]), finding.check, told)
    console = Console(highlight=False)
    console.print(table)
    console.print(Text(_summary(findings), style="bold red" if exit_status(findings) else "bold green"))


def _summary(findings: Sequence[Finding]) -> str:
    counts = Counter(finding.state for finding in findings)
    told = ", ".join(f"{counts[state]} {state}" for state in reversed(State) if counts[state])
    return f"{told}. {'Mend what failed, then look again.' if counts[State.FAILED] else 'Nothing failed.'}"
