"""A consumer in a process of its own, there to be killed: `python -m tests.harness.bus_consumer URL TOPOLOGY PREFETCH`.

It prints the id of each message that it gets and settles none. Works for every bus that has a URL.
"""

import asyncio
import dataclasses
import json
import sys
from pathlib import Path

from shared.bus import bus_for
from shared.topology import Queue, Topology

_START_SECONDS = 20.0


async def hold_and_die(url: str, topology: Topology, *, count: int) -> list[str]:
    """Lets a process take `count` messages of the first queue in hand, kills it, and returns the messages' ids."""
    arguments = [url, json.dumps(dataclasses.asdict(topology)), str(count)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.harness.bus_consumer",
        *arguments,
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_SECONDS):
            return [(await process.stdout.readline()).decode().strip() for _ in range(count)]
    finally:
        process.kill()
        await process.wait()


async def _hold(url: str, topology: Topology, prefetch: int) -> None:
    async with (
        bus_for(url, topology, client_name="held") as bus,
        bus.consume(topology.queues[0], prefetch) as deliveries,
    ):
        async for delivery in deliveries:
            print(delivery.message.id, flush=True)


def _topology(text: str) -> Topology:
    described = json.loads(text)
    queues = (
        Queue(queue["name"], tuple(queue["routing_keys"]), tuple(queue["retry_delays_seconds"]))
        for queue in described["queues"]
    )
    return Topology(described["exchange"], tuple(queues))


if __name__ == "__main__":
    asyncio.run(_hold(sys.argv[1], _topology(sys.argv[2]), int(sys.argv[3])))
