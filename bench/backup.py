"""`python -m bench.backup --leads 100000`: how long `leads backup` and `leads restore` take over so many leads.

Whole leads are made straight in the stores of a data folder of its own (as `bench.audit` does), backed up, backed up
again after one in a hundred came in, and restored into an empty folder, which is then audited, resumes and all.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.audit import BODY, environment, make, measure
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
        print(f"| {chosen.leads:,} leads, resumes of {len(body):,} bytes | seconds | MiB on the disk |\n|---|---|---|")
        make(data, chosen.leads, body)
        row("backup", command(data, "backup", backups), backups)
        make(data, chosen.leads * NEW_PERCENT // 100, body)
        before_mib = on_disk_mib(backups)
        row(f"the next backup, {NEW_PERCENT} % new", command(data, "backup", backups), backups, before_mib)
        row("restore", command(empty, "restore", max(backups.glob("2*"))), empty)
        row("audit --deep of what was restored", measure(empty, "--deep")[0], empty)


def command(data: Path, *arguments: object) -> float:
    """Seconds that the command took, start and all. Exits when it fails."""
    started = time.monotonic()
    line = [sys.executable, "-m", "services.cli", *map(str, arguments)]
    done = subprocess.run(line, cwd=ROOT, env=environment(data), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench: {done.stderr}")
    return time.monotonic() - started


def row(what: str, seconds: float, folder: Path, before_mib: float = 0.0) -> None:
    """One line of the table."""
    print(f"| {what} | {seconds:.1f} | {on_disk_mib(folder) - before_mib:,.0f} |", flush=True)


def on_disk_mib(folder: Path) -> float:
    """What the folder takes; a file with several names counts once."""
    done = subprocess.run(["du", "-s", "--block-size=1K", str(folder)], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0]) / 1024


if __name__ == "__main__":
    main()
