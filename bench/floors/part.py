"""The floors of this machine: what each thing that Leads does would take if nothing else were done."""

import asyncio
import statistics
import subprocess
import sys
from pathlib import Path

from bench.figures import Result, Table, reported, spread
from bench.peers.leads import broker
from bench.rounds import own_folder, say
from bench.size import Size
from tests.harness.deployment import ROOT

ABOUT = "Programs that do one thing each, one after the other, in processes of their own; median of the rounds."
WHAT = {
    "files": ("64 KiB files, written, fsynced, renamed, folder fsynced", "files/s"),
    "commits": ("SQLite commits of one row, WAL, synchronous=FULL", "commits/s"),
    "publishes": ("publishes confirmed by a quorum queue, 256 in flight", "messages/s"),
}


async def measure(size: Size, folder: Path) -> Result:
    """All floors but those that the intake's rounds hold: the bare ASGI app and the bare script."""
    seen: dict[str, list[float]] = {name: [] for name in WHAT}
    with own_folder(folder, "floors") as room:
        async with broker(room / "rabbitmq") as node:
            for _ in range(size.rounds):
                for name, values in seen.items():
                    values.append(await per_second(name, size.floor_seconds, node.url()))
                    say(f"floors: {name}: {values[-1]:,.0f}/s")
    figures = [reported(what, f"{statistics.median(seen[name]):,.0f} {unit}") for name, (what, unit) in WHAT.items()]
    rows = tuple((what, f"{spread(seen[name])} {unit}") for name, (what, unit) in WHAT.items())
    return Result(ABOUT, tuple(figures), (Table("Floors", ("what", "measured"), rows),))


async def per_second(name: str, seconds: float, url: str = "") -> float:
    """One floor. Raises `RuntimeError` with what it said when it fails."""
    command = [sys.executable, "-m", "bench.floors", name, "--seconds", str(seconds), "--url", url]
    done = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the floor {name!r} failed: {done.stderr}")
    return float(done.stdout)
