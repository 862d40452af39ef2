"""`python -m bench.backup --leads 100000`: how long `leads backup` and `leads restore` take over so many leads.

Whole leads are made straight in the stores of a data folder of its own (as `bench.audit` does), backed up, backed up
again after one in a hundred came in, and restored into an empty folder, which is then audited, resumes and all.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench.audit import BODY, environment, make
from tests.harness.deployment import ROOT

NEW_PERCENT = 1


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.backup")
    parser.add_argument("--leads", type=int, default=100_000)
    parser.add_argument("--resume-bytes", type=int, default=len(BODY), help="size of each resume")
    chosen = parser.parse_args()
    body = BODY.ljust(chosen.resume_bytes, b"\n")
    with tempfile.TemporaryDirectory(prefix="leads-bench-") as folder:
        data, backups, empty = (Path(folder) / name for name in ("data", "backups", "empty"))
        about = f"{chosen.leads:,} leads, resumes of {len(body):,} bytes"
        print(f"| {about} | seconds | of the processor | MiB on the disk |\n|---|---|---|---|")
        make(data, chosen.leads, body)
        row("backup", command(data, "backup", backups), backups)
        make(data, chosen.leads * NEW_PERCENT // 100, body)
        before_mib = on_disk_mib(backups)
        row(f"the next backup, {NEW_PERCENT} % new", command(data, "backup", backups), backups, before_mib)
        row("restore", command(empty, "restore", max(backups.glob("2*"))), empty)
        row("audit --deep of what was restored", command(empty, "audit", "--deep"), empty)


class Took(NamedTuple):
    """Seconds, and how many of them a processor was busy with it: what a busy machine says little about otherwise."""

    seconds: float
    busy_seconds: float


def command(data: Path, *arguments: object) -> Took:
    """What the command took, start and all. Exits when it fails."""
    started, busy_before = time.monotonic(), busy_seconds()
    line = [sys.executable, "-m", "services.cli", *map(str, arguments)]
    done = subprocess.run(line, cwd=ROOT, env=environment(data), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench: {done.stdout}{done.stderr}")
    return Took(time.monotonic() - started, busy_seconds() - busy_before)


def busy_seconds() -> float:
    """Of all commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(what: str, took: Took, folder: Path, before_mib: float = 0.0) -> None:
    """One line of the table."""
    mib = on_disk_mib(folder) - before_mib
    print(f"| {what} | {took.seconds:.1f} | {took.busy_seconds:.1f} | {mib:,.0f} |", flush=True)


def on_disk_mib(folder: Path) -> float:
    """What the folder takes; a file with several names counts once."""
    done = subprocess.run(["du", "-s", "--block-size=1K", str(folder)], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0]) / 1024


if __name__ == "__main__":
    main()
