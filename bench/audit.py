"""`python -m bench.audit --leads 1000000`: how long `leads audit` takes over so many leads, and how much memory.

Rows and resumes are made straight in the stores of a data folder of its own, each lead whole: a tiny resume, an
event that was published, two e-mails that were sent. Nothing of Leads runs but the command.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from services.cli.init import first_start
from services.cli.settings import CliSettings
from shared.ids import new_id
from tests.harness.deployment import ROOT

BODY = b"%PDF-1.7\na tiny resume\n%%EOF\n"
EVENT_BODY = b" " * 800
"""As long as a real one: nothing of the audit reads it."""

AT_ONCE = 20_000


class _Made(NamedTuple):
    lead_id: str
    blob_id: str
    event_id: str


def make(folder: Path, leads: int, body: bytes = BODY) -> None:
    """A data folder with so many whole leads, or so many more."""
    asyncio.run(first_start(CliSettings(data_dir=folder)))
    facts = (len(body), hashlib.sha256(body).hexdigest())
    resumes = folder / "resumes"
    resumes.mkdir(exist_ok=True)
    with _open(folder / "leads.db") as api, _open(folder / "notifier.db") as notifier:
        for begin in range(0, leads, AT_ONCE):
            made = [_Made(new_id(), new_id(), new_id()) for _ in range(min(AT_ONCE, leads - begin))]
            _insert(api, "leads", (_lead(one, facts) for one in made))
            _insert(api, "outbox", map(_event, made))
            _insert(notifier, "emails", (_email(one, kind) for one in made for kind in ("prospect", "staff")))
            for one in made:
                (resumes / one.blob_id).write_bytes(body)


def measure(folder: Path, *options: str) -> tuple[float, float, str]:
    """Seconds, peak resident MiB and the last line of one run of the command."""
    command = [sys.executable, "-m", "services.cli", "audit", "--json", *options]
    started, peak_mib = time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(folder), stdout=output)
        while process.poll() is None:
            peak_mib = max(peak_mib, _peak_mib(process.pid))
            time.sleep(0.05)
        output.seek(0)
        lines = output.read().splitlines()
    if process.returncode != 0:
        sys.exit(f"bench: the audit found something in what is whole: {lines[:3]}")
    return time.monotonic() - started, peak_mib, lines[-1]


def environment(folder: Path) -> dict[str, str]:
    """What a command needs to work on that data folder, and on nothing else."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LEADS_DATA_DIR": str(folder)}


def _peak_mib(pid: int) -> float:
    """The most that was resident so far (proc(5), VmHWM). `wait4` would count what was there before the exec, too."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)


def main() -> None:
    """Measure and print, without and with reading every resume."""
    parser = argparse.ArgumentParser(prog="python -m bench.audit")
    parser.add_argument("--leads", type=int, default=100_000)
    leads = parser.parse_args().leads
    with tempfile.TemporaryDirectory(prefix="leads-bench-") as folder:
        make(Path(folder), leads)
        print("| leads audit of | seconds | peak resident, MiB |\n|---|---|---|")
        for options in ((), ("--deep",)):
            seconds, peak_mib, summary = measure(Path(folder), *options)
            if json.loads(summary)["summary"]["leads"] != leads:
                sys.exit(f"bench: not all leads were looked at: {summary}")
            print(f"| {leads:,} leads {' '.join(options)} | {seconds:.0f} | {peak_mib:.0f} |", flush=True)


@contextmanager
def _open(database: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA synchronous=OFF")
    try:
        yield connection
    finally:
        connection.close()


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[tuple[object, ...]]) -> None:
    first, *others = rows
    marks = ", ".join("?" for _ in first)
    with connection:
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", [first, *others])


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat(" ", timespec="microseconds")


def _lead(one: _Made, facts: tuple[int, str]) -> tuple[object, ...]:
    email = f"{one.lead_id}@bench.example"
    person = (one.lead_id, "Ann", "Lee", email, email, f"ann lee {email}")
    resume = (one.blob_id, "cv.pdf", "application/pdf", *facts)
    return (*person, *resume, "PENDING", 1, _now())


def _event(one: _Made) -> tuple[object, ...]:
    return (one.event_id, "lead.created", one.lead_id, EVENT_BODY, None, None, _now(), _now(), None)


def _email(one: _Made, kind: str) -> tuple[object, ...]:
    about = (one.event_id, one.lead_id, kind, f"{one.lead_id}@bench.example", "sent", 1, new_id(), None)
    return (new_id(), *about, _now(), _now(), 0)  # the order of the table, where what was added later comes last


if __name__ == "__main__":
    main()
