"""`make bench`: the figures that the README states, measured here and now, each beside its target.

`python -m bench --short` takes about a minute and is what CI runs; the figures to quote come from the long form.
Nothing is asserted about speed: machines differ. What is asserted is that no accepted lead lacks anything.
"""

import argparse
import asyncio
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench import intake, listing, mail
from tests.harness.deployment import deployed


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    what: str
    measured: str
    target: str


@dataclass(frozen=True)
class Size:
    """How long each part takes."""

    intake_seconds: int
    rounds: int
    least_leads: int
    mail_seconds: int
    listed: int
    pages: int


LONG = Size(intake_seconds=15, rounds=3, least_leads=20_000, mail_seconds=30, listed=100_000, pages=500)
SHORT = Size(intake_seconds=4, rounds=1, least_leads=0, mail_seconds=5, listed=20_000, pages=100)


async def measure(size: Size, folder: Path) -> list[Figure]:
    """All figures, on one deployment, in the order in which they do not disturb one another."""
    async with deployed(folder) as deployment:
        figures = [await _mail(deployment, size)]
        figures += await _intake(deployment, size)
        listing.add_leads(deployment, size.listed)
        pages = await listing.page_latencies_ms(deployment, size.pages)
        figures.append(Figure(f"list page of 50, {size.listed:,} leads", _percentiles(pages), "p99 <= 20 ms"))
        return figures


async def _mail(deployment: intake.Deployment, size: Size) -> Figure:
    spans = await mail.accepted_to_mailed_ms(deployment, per_second=50, seconds=size.mail_seconds)
    return Figure("accepted to e-mailed, 50 leads/s", _percentiles(spans), "p50 <= 100 ms, p99 <= 500 ms")


async def _intake(deployment: intake.Deployment, size: Size) -> list[Figure]:
    runs = [await intake.post_leads(deployment, size.intake_seconds) for _ in range(size.rounds)]
    accepted = sum(run.accepted for run in runs)
    while accepted < size.least_leads:
        runs.append(await intake.post_leads(deployment, size.intake_seconds))
        accepted += runs[-1].accepted
    drained_seconds = await intake.wait_until_drained(deployment)
    leads = intake.check_nothing_is_missing(deployment, at_least=accepted)
    rates = sorted(run.per_second for run in runs)
    p99s = sorted(run.p99_ms for run in runs)
    errors = sum(run.refused + run.broken for run in runs)
    memory = ", ".join(f"{room} {mib:.0f}" for room, mib in intake.resident_mib(deployment).items())
    return [
        Figure("intake, 64 KiB PDF, 32 connections, leads/s", f"{rates[0]:,.0f} to {rates[-1]:,.0f}", ">= 800"),
        Figure("intake p99, ms", f"{p99s[0]:.0f} to {p99s[-1]:.0f}", "< 100"),
        Figure("refused or broken requests", str(errors), "0"),
        Figure(f"mails of the burst all sent, seconds after its {leads:,} leads", f"{drained_seconds:.0f}", "reported"),
        Figure(f"resident after {leads:,} leads, MiB", memory, "< 120 each"),
    ]


def _percentiles(spans: list[float]) -> str:
    return f"p50 {spans[len(spans) // 2]:.0f} ms, p99 {spans[int(len(spans) * 0.99)]:.0f} ms"


def print_table(figures: list[Figure]) -> None:
    """The table, as Markdown."""
    print(
        f"\n{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; load on the same cores\n"
    )
    print("| what | measured | target |\n|---|---|---|")
    for figure in figures:
        print(f"| {figure.what} | {figure.measured} | {figure.target} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--short", action="store_true", help="a minute instead of several")
    size = SHORT if parser.parse_args().short else LONG
    if not intake.wrk_is_here():
        sys.exit("bench: wrk is not installed (Debian: apt-get install wrk)")
    with tempfile.TemporaryDirectory(prefix="leads-bench-") as folder:
        print_table(asyncio.run(measure(size, Path(folder))))


if __name__ == "__main__":
    main()
