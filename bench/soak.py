"""`make soak`: an hour at 70 % of the highest rate. Does anything fail, grow, or get lost?

`python -m bench.soak --minutes 60` finds the highest rate first, at which a burst comes in and is e-mailed; `--rate 50`
sets what to run at instead. Leads come at a fixed rate whether or not answers do (open model), and latency counts from
when a lead was due, so that no waiting is hidden. The staff list, read and download meanwhile; the notifier is stopped
and started once, within the first half. Memory is judged over the second half, descriptors at rest, before and after.
Ends with status 1 when a figure is missed.
"""

import argparse
import asyncio
import csv
import os
import shutil
import sys
import tempfile
import time
import uuid
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

from bench import kept, wrk
from bench.open_model import due
from bench.peers.protocol import Lost
from bench.vitals import Growth, Sample, descriptors_left_over, growth, sample
from services.cli.pinning import processors
from tests.chaos.storm import NO_ANSWER
from tests.harness.client import Client
from tests.harness.deployment import ADMIN, PASSWORD, Deployment, deployed
from tests.harness.files import pdf

SHARE = 0.7
PROBE_SECONDS = 15
RESTART_AT = 0.25
STAFF_SECONDS = 1.0
MOST_MIB_PER_HOUR = 5.0
BLOCK_BYTES = 4096
OTHER_BYTES_PER_LEAD = 6 * BLOCK_BYTES
"""Two e-mails and a lead's rows in three databases, measured: 22 KiB."""

FILES_PER_LEAD = 3
SILENCE_SECONDS = 45.0
"""Longer than any room keeps a connection on which nothing is asked."""

FDS_OPENED_LATE = 8
"""Readers of a database, which open when they are first needed: four, of two files each."""


@dataclass(frozen=True)
class Plan:
    """What to do. `rate` is in leads a second."""

    minutes: float
    rate: float
    resume_bytes: int
    every_seconds: float

    @property
    def leads(self) -> int:
        """How many leads that makes."""
        return int(self.minutes * 60 * self.rate)


@dataclass
class Seen:
    """What clients and the sampler saw."""

    accepted: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latencies_ms: array = field(default_factory=lambda: array("f"))
    reads_ms: array = field(default_factory=lambda: array("f"))
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    at_rest: tuple[dict[str, Sample], dict[str, Sample]] = field(default_factory=lambda: ({}, {}))
    """Each room before the first lead, and after the last when nobody has asked it anything for a while."""


async def soak(deployment: Deployment, plan: Plan) -> Seen:
    """Run the plan, and look whether everything that was accepted is there whole afterwards."""
    seen = Seen()
    before = kept.count(deployment.leads_db, "leads")
    fresh = sample(deployment, 0)
    beside = [
        asyncio.create_task(work)
        for work in (_sample(deployment, plan, seen), _staff(deployment, seen), _restart(deployment, plan, seen))
    ]
    try:
        await _submit(deployment, plan, seen)
    finally:
        for task in beside:
            task.cancel()
        ended = await asyncio.gather(*beside, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error
    await _look_for_missing(deployment, before, seen)
    await asyncio.sleep(SILENCE_SECONDS)
    seen.at_rest = fresh, sample(deployment, seen.accepted)
    return seen


async def _look_for_missing(deployment: Deployment, before: int, seen: Seen) -> None:
    """An error like any other: what was measured is told all the same."""
    try:
        drained_seconds = await kept.wait_until_drained(deployment)
        leads = kept.check_nothing_is_missing(deployment, at_least=before + seen.accepted)
    except Lost as missing:
        seen.errors[str(missing)] += 1
        return
    sent = f"{drained_seconds:.0f} s later all {2 * leads:,} e-mails were sent, and nothing is missing"
    print(f"{seen.accepted:,} leads accepted; {sent}", flush=True)


async def _submit(deployment: Deployment, plan: Plan, seen: Seen) -> None:
    run = uuid.uuid4().hex[:8]
    async with Client(deployment.api_url) as client, asyncio.TaskGroup() as sending:
        async for number, due_at in due(plan.leads, plan.rate):
            resume = pdf(plan.resume_bytes, seed=number)
            sending.create_task(_post(client, f"soak-{run}-{number}@bench.example", resume, due_at, seen))


async def _post(client: Client, email: str, resume: bytes, due_at: float, seen: Seen) -> None:
    try:
        answer = await client.post_lead(email, resume)
    except NO_ANSWER as error:
        seen.errors[f"POST: {type(error).__name__}"] += 1
        return
    seen.latencies_ms.append((time.monotonic() - due_at) * 1000)
    if answer.status == 201:
        seen.accepted += 1
    else:
        seen.errors[f"POST: {answer.status}"] += 1


async def _staff(deployment: Deployment, seen: Seen) -> None:
    """List, read, download, once a second."""
    async with Client(deployment.api_url) as client:
        await client.login(ADMIN, PASSWORD)
        while True:
            await asyncio.sleep(STAFF_SECONDS)
            page = await _read(client, "/leads?limit=50", seen)
            if page is not None and page["items"]:
                path = f"/leads/{page['items'][-1]['id']}"
                await _read(client, path, seen)
                await _read(client, f"{path}/resume", seen)


async def _read(client: Client, path: str, seen: Seen) -> Any:
    """The body as JSON, if it is JSON; None for an error."""
    began_at = time.monotonic()
    try:
        answer = await client.call("GET", path)
    except NO_ANSWER as error:
        seen.errors[f"GET: {type(error).__name__}"] += 1
        return None
    seen.reads_ms.append((time.monotonic() - began_at) * 1000)
    if answer.status != 200:
        seen.errors[f"GET: {answer.status}"] += 1
        return None
    return answer.json


async def _restart(deployment: Deployment, plan: Plan, seen: Seen) -> None:
    await asyncio.sleep(RESTART_AT * plan.minutes * 60)
    if await deployment.stop("notifier") != 0:
        seen.errors["notifier: did not end well"] += 1
    await deployment.restart("notifier")


async def _sample(deployment: Deployment, plan: Plan, seen: Seen) -> None:
    while True:
        for room, one in sample(deployment, seen.accepted).items():
            seen.samples.setdefault(room, []).append(one)
        await asyncio.sleep(plan.every_seconds)


def report(plan: Plan, seen: Seen, warnings: int) -> bool:
    """Print the figures beside their targets; whether all are met."""
    grown = {room: growth(samples) for room, samples in seen.samples.items()}
    errors = sum(seen.errors.values())
    print(f"\n{plan.minutes:g} min at {plan.rate:.0f} leads/s, resumes of {plan.resume_bytes:,} bytes\n")
    print("| what | measured | target |\n|---|---|---|")
    print(f"| errors | {errors} {dict(seen.errors) or ''} | 0 |")
    print(f"| accepted, of {plan.leads:,} | {seen.accepted:,} | all |")
    print(f"| POST, from when it was due | {_percentiles(seen.latencies_ms)} | reported |")
    print(f"| staff's list, read, download | {_percentiles(seen.reads_ms)} | reported |")
    print(f"| log records at WARNING or above | {warnings} | reported |")
    for room, one in grown.items():
        print(f"| {room}: RSS, second half | {_memory(one)} | <= {MOST_MIB_PER_HOUR:.0f} MiB/h |")
        counts = f"{one.fds[0]} to {one.fds[1]}; threads {one.threads[0]} to {one.threads[1]}"
        print(f"| {room}: descriptors, second half | {counts} | reported |")
    more = descriptors_left_over(*seen.at_rest)
    for room, left_over in more.items():
        print(f"| {room}: descriptors at rest, after less before | {left_over:+d} | <= {FDS_OPENED_LATE} |")
    calm = all(one.mib_per_hour <= MOST_MIB_PER_HOUR for one in grown.values())
    return calm and max(more.values()) <= FDS_OPENED_LATE and not errors and seen.accepted == plan.leads


def _memory(one: Growth) -> str:
    slopes = f"{one.mib_per_hour:+.1f} MiB/h, {one.mib_per_100_000_leads:+.1f} MiB per 100,000 leads"
    return f"{one.first_mib:.1f} to {one.last_mib:.1f} MiB: {slopes}"


def _percentiles(spans: Iterable[float]) -> str:
    found = sorted(spans)
    if not found:
        return "none"
    p50, p99, p999 = (found[int(len(found) * share)] for share in (0.5, 0.99, 0.999))
    return f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, p99.9 {p999:.0f} ms, longest {found[-1]:.0f} ms"


def check_disk(plan: Plan, folder: Path) -> None:
    """Ends with one line when the leads of the plan do not fit."""
    per_lead = OTHER_BYTES_PER_LEAD + -(-plan.resume_bytes // BLOCK_BYTES) * BLOCK_BYTES
    needed, free = plan.leads * per_lead, shutil.disk_usage(folder).free
    inodes = os.statvfs(folder)
    few_inodes = inodes.f_files > 0 and inodes.f_favail < plan.leads * FILES_PER_LEAD
    print(f"{plan.leads:,} leads will take {needed / 1e9:.1f} GB in {folder}", flush=True)
    if needed > free or few_inodes:
        short = "inodes" if needed <= free else f"{free / 1e9:.1f} GB"
        sys.exit(
            f"bench: {folder} has not enough free ({short}): set TMPDIR to a larger disk,"
            " or give a smaller --minutes, --rate or --resume-bytes"
        )


async def highest_rate(deployment: Deployment, resume_bytes: int) -> float:
    """Leads a second, from the first of a burst to its last e-mail: beyond that, e-mails fall ever further behind."""
    found = await wrk.post_leads(f"{deployment.api_url}/leads", PROBE_SECONDS, resume_bytes)
    took_seconds = found.seconds + await kept.wait_until_drained(deployment)
    rate = found.accepted / took_seconds
    burst = f"{found.accepted:,} leads at {found.per_second:.0f}/s, all e-mailed {took_seconds:.0f} s after the first"
    print(f"{burst}: {rate:.0f} leads/s; {SHARE:.0%} of that from here on", flush=True)
    return rate


def write_samples(seen: Seen, path: Path) -> None:
    """All samples as CSV, to look for oneself."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["room", *(one.name for one in fields(Sample))])
        rows.writerows([room, *astuple(one)] for room, samples in seen.samples.items() for one in samples)


async def measure(wanted: argparse.Namespace, folder: Path) -> bool:
    """Bring Leads up, run the plan, report; whether all figures are met."""
    settings = {"LEADS_LOG_LEVEL": "WARNING", "LEADS_TOKEN_LIFETIME_SECONDS": str(12 * 3600)}
    async with deployed(folder, settings, processors("auto")) as deployment:
        rate = wanted.rate or SHARE * await highest_rate(deployment, wanted.resume_bytes)
        plan = Plan(wanted.minutes, rate, wanted.resume_bytes, wanted.every)
        check_disk(plan, folder)
        seen = await soak(deployment, plan)
        if wanted.samples:
            write_samples(seen, wanted.samples)
        return report(plan, seen, warnings=sum(len(deployment.log(room)) for room in deployment.processes))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, help="leads a second (default: 70 %% of the highest, found first)")
    parser.add_argument("--resume-bytes", type=int, default=4096, help="the default lets an hour fit into 30 GB")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    parser.add_argument("--samples", type=Path, help="write all samples there, as CSV")
    wanted = parser.parse_args()
    if not wanted.rate and not wrk.is_here():
        sys.exit(f"bench: {wrk.MISSING}, so give a --rate")
    with tempfile.TemporaryDirectory(prefix="leads-soak-") as folder:
        if not asyncio.run(measure(wanted, Path(folder))):
            sys.exit(1)


if __name__ == "__main__":
    main()
