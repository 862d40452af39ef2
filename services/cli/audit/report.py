"""What an audit prints: a line for each finding as it is found, then a table of counts; or the same as JSON lines.

Nothing is held: a million findings are a million lines. Progress goes to stderr, and only to a terminal.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from rich.console import Console
from rich.table import Table

from services.cli.audit.findings import Finding, Totals
from services.cli.progress import progress


class Report(Protocol):
    """Where findings and counts go."""

    def finding(self, finding: Finding) -> None: ...

    def summary(self, totals: Totals) -> None: ...

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], object]]: ...


class _Bar:
    """The progress bar that both forms of a report share."""

    def progress(self, what: str, total: int) -> AbstractContextManager[Callable[[int], object]]:
        """Shows how many of `total` were looked at; the block is given what to call with how many more."""
        return progress(what, total)


class TextReport(_Bar):
    """For people."""

    def finding(self, finding: Finding) -> None:
        print(finding)

    def summary(self, totals: Totals) -> None:
        table = Table(box=None, show_header=False)
        table.add_column(justify="left")
        table.add_column(justify="right")
        for what, count in _rows(totals):
            table.add_row(what, f"{count:,}")
        Console().print(table)


class JsonReport(_Bar):
    """For programs: one JSON object a line, the last of them `{"summary": …}`."""

    def finding(self, finding: Finding) -> None:
        said = {"finding": finding.kind, finding.subject: finding.id, "detail": finding.detail}
        print(json.dumps({**said, "mended": finding.is_mended}))

    def summary(self, totals: Totals) -> None:
        print(json.dumps({"summary": vars(totals)}))
        sys.stdout.flush()


def _rows(totals: Totals) -> Iterator[tuple[str, int]]:
    yield "leads", totals.leads
    yield "resumes", totals.blobs
    yield "resumes in flight (no lead yet)", totals.blobs_in_flight
    yield "events", totals.events
    for state, count in sorted(totals.emails.items()):
        yield f"e-mails {state}", count
    yield "leads waiting in the outbox", totals.waiting_in_outbox
    yield "leads waiting on the bus", totals.waiting_on_bus
    yield "dead letters (`leads queues peek`)", totals.dead
    yield "orphans removed", totals.mended
    yield "discrepancies", totals.discrepancies
