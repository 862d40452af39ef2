"""`python -m bench.traces`: what traces cost each room, in processor time a lead and in memory, off and on.

The load is that of the intake (`bench.wrk`), until all e-mails are written. The collector runs in this process, so
that its own work is not counted.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench import kept, wrk
from bench.peers.process import processor_seconds
from bench.vitals import sample
from tests.harness.collector import Collector
from tests.harness.deployment import ROOMS, Deployment, deployed

WARM_UP_SECONDS = 2


async def cost(folder: Path, settings: Mapping[str, str], seconds: int) -> str:
    """Processor time a lead and resident memory of each room, as one line."""
    async with deployed(folder, settings) as deployment:
        await wrk.post_leads(f"{deployment.api_url}/leads", WARM_UP_SECONDS)
        await kept.wait_until_drained(deployment)
        before = _by_room(deployment)
        run = await wrk.post_leads(f"{deployment.api_url}/leads", seconds)
        await kept.wait_until_drained(deployment)
        after = _by_room(deployment)
        memory = {room: one.rss_mib for room, one in sample(deployment, run.accepted).items()}
    each = {room: (after[room] - before[room]) * 1000 / run.accepted for room in ROOMS}
    spent = ", ".join(f"{room} {each[room]:.2f} ms" for room in ROOMS)
    held = ", ".join(f"{room} {memory[room]:.0f} MiB" for room in ROOMS)
    return f"{spent} a lead; {held} after {run.accepted:,} leads at {run.per_second:,.0f}/s"


def _by_room(deployment: Deployment) -> dict[str, float]:
    """Processor time of each room so far, in seconds."""
    return {room: processor_seconds([process.pid]) for room, process in deployment.processes.items()}


async def main(seconds: int, rounds: int) -> None:
    """Off and on by turns, so that a busy machine disturbs both."""
    async with Collector() as collector:
        for _ in range(rounds):
            for name, settings in {"off": {}, "on": {"LEADS_OTLP_ENDPOINT": collector.endpoint}}.items():
                with tempfile.TemporaryDirectory() as folder:
                    print(f"{name:4}{await cost(Path(folder), settings, seconds)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.traces", description=main.__doc__)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    asyncio.run(main(chosen.seconds, chosen.rounds))
