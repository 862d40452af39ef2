"""What a stack of docker-compose.yml takes: sizes of its images, time to its first e-mails, memory of each container.

`python -m bench.compose` brings one up from nothing (its own project, ports and volumes), measures, and takes it away.
"""

import argparse
import asyncio
import random
import time

import aiohttp

from tests.chaos.storm import Storm
from tests.harness.client import Client
from tests.harness.compose import IMAGE, MISSING, ROOMS_AND_BROKER, Stack, docker, find_compose
from tests.harness.files import pdf

MIB = 1024 * 1024
UNITS = {"B": 1, "KiB": 1024, "MiB": MIB, "GiB": 1024 * MIB}
REST_SECONDS = 5.0


async def measure(leads: int) -> None:
    """Print one line for each figure."""
    stack = Stack({"LEADS_STAFF_EMAIL": "staff@leads.example", "LEADS_LOG_LEVEL": "WARNING"})
    try:
        await stack.build()
        await _print_sizes()
        began = time.monotonic()
        await stack.up()
        ready = await _first_lead(stack)
        mailed = await stack.mails_arrive(2, seconds=120)
        print(f"from `up` to the api ready:          {ready - began:6.1f} s")
        print(f"from `up` to the first two e-mails:  {mailed - began:6.1f} s")
        await stack.healthy()
        await asyncio.sleep(REST_SECONDS)
        at_rest = await _memory(stack)
        began = time.monotonic()
        await Storm(stack.api_url, "bench", dice=random.Random(1)).run(leads)
        took = time.monotonic() - began
        await stack.mails_arrive(2 * (leads + 1), seconds=600)
        mailed = time.monotonic() - began
        print(f"{leads} leads by 16 clients: posted in {took:.1f} s, all e-mails sent after {mailed:.1f} s")
        after = await _memory(stack)
        print(f"{'memory, MiB':<12}{'at rest':>10}{f'after {leads} leads':>20}")
        for service in ROOMS_AND_BROKER:
            print(f"{service:<12}{at_rest[service]:>10.0f}{after[service]:>20.0f}")
    finally:
        await stack.down()


async def _print_sizes() -> None:
    for image in (IMAGE, "rabbitmq:4-management"):
        size = int(await docker("image", "inspect", "--format", "{{.Size}}", image))
        print(f"image {image}: {size / 1e6:.0f} MB")
    layers = await docker("history", "--format", "{{.Size}} {{.CreatedBy}}", "--human=false", "--no-trunc", IMAGE)
    own = sum(int(line.split()[0]) for line in layers.splitlines()[: _own_layers(layers)])
    print(f"of the first, on top of its base image: {own / 1e6:.0f} MB")


def _own_layers(history: str) -> int:
    """How many of the newest layers the Dockerfile's last stage made: up to its first instruction, a LABEL."""
    lines = history.splitlines()
    return next(number for number, line in enumerate(lines, 1) if "LABEL org.opencontainers.image.title" in line)


async def _first_lead(stack: Stack) -> float:
    """When the api was ready; a lead is sent at once."""
    async with Client(stack.api_url) as client:
        while True:
            try:
                if (await client.call("GET", "/readyz")).status == 200:
                    break
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
        ready = time.monotonic()
        answer = await client.post_lead("first@example.com", pdf(40_000, seed=1))
        assert answer.status == 201, answer.body
    return ready


async def _memory(stack: Stack) -> dict[str, float]:
    """MiB by service, as `docker stats` counts it."""
    found = {}
    for service in ROOMS_AND_BROKER:
        (container,) = await stack.containers(service)
        used = (await docker("stats", "--no-stream", "--format", "{{.MemUsage}}", container)).split("/")[0].strip()
        number = used.rstrip("BKMGi")
        found[service] = float(number) * UNITS[used.removeprefix(number)] / MIB
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leads", type=int, default=5_000)
    if find_compose() is None:
        raise SystemExit(f"leads: {MISSING}.")
    asyncio.run(measure(parser.parse_args().leads))
