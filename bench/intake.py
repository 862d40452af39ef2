"""Intake: how many leads a second are accepted, durably, on the embedded defaults; and that none of them is missing.

Load: wrk, 32 connections, one 64 KiB PDF and one unique address a request, the rate limit off. Event, e-mails and logs
flow at the same time; what is left over afterwards is drained, and the drain is timed.
"""

import asyncio
import os
import shutil
import sqlite3
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.harness.deployment import Deployment
from tests.harness.kept import blobs

CONNECTIONS = 32
RESUME_BYTES = 64 * 1024
SCRIPT = Path(__file__).parent / "intake.lua"
DRAIN_SECONDS = 300


@dataclass(frozen=True)
class Run:
    """What one run of wrk saw."""

    accepted: int
    refused: int
    broken: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Leads accepted in a second."""
        return self.accepted / self.seconds


async def post_leads(deployment: Deployment, seconds: int, resume_bytes: int = RESUME_BYTES) -> Run:
    """Send leads as fast as they are taken."""
    environment = {**os.environ, "RESUME_BYTES": str(resume_bytes), "RUN_ID": uuid.uuid4().hex[:8]}
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s", "-s", str(SCRIPT)]
    done = await asyncio.to_thread(
        subprocess.run, [*command, deployment.api_url], env=environment, capture_output=True, text=True, check=True
    )
    numbers = next(line for line in done.stdout.splitlines() if line.startswith("RESULT")).split()[1:]
    requests, refused, broken = map(int, numbers[:3])
    return Run(requests - refused, refused, broken, *map(float, numbers[3:]))


async def wait_until_drained(deployment: Deployment) -> float:
    """Seconds until every accepted lead has both of its e-mails. Raises when that takes too long."""
    started = time.monotonic()
    while time.monotonic() - started < DRAIN_SECONDS:
        if emails_sent(deployment) >= 2 * count(deployment, "leads.db", "leads"):
            return time.monotonic() - started
        await asyncio.sleep(0.5)
    raise AssertionError("the e-mails did not follow")


def check_nothing_is_missing(deployment: Deployment, at_least: int) -> int:
    """Rows, blobs, events and e-mails all number the same; returns how many leads."""
    leads = count(deployment, "leads.db", "leads")
    published = count(deployment, "leads.db", "outbox", "published_at IS NOT NULL")
    stored = len(blobs(deployment))
    mails = sum(1 for _ in deployment.mailbox.glob("*.eml"))
    found = {"leads": leads, "events": published, "blobs": stored, "e-mails / 2": mails / 2}
    if leads < at_least or set(found.values()) != {leads}:
        raise AssertionError(f"{at_least} leads were answered 201, but there are {found}")
    return leads


def count(deployment: Deployment, database: str, table: str, where: str = "1") -> int:
    """Rows of a table, read from outside."""
    connection = sqlite3.connect(f"file:{deployment.data / database}?mode=ro", uri=True)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table} WHERE {where}").fetchone()[0])
    finally:
        connection.close()


def emails_sent(deployment: Deployment) -> int:
    """E-mails that the notifier has handed over."""
    return count(deployment, "notifier.db", "emails", "state = 'sent'")


def resident_mib(deployment: Deployment) -> dict[str, float]:
    """Resident memory of each process, MiB."""
    return {
        room: psutil.Process(process.pid).memory_info().rss / 2**20 for room, process in deployment.processes.items()
    }


def wrk_is_here() -> bool:
    """Whether the load generator is installed."""
    return shutil.which("wrk") is not None
