"""Start: seconds from `leads up` to a deployment of which every room says that it is ready."""

import asyncio
import statistics
import sys
import time
from pathlib import Path

import aiohttp

from bench.figures import Result, Table, at_most, number, reported, spread
from bench.peers.process import Server
from bench.rounds import own_folder, say
from bench.size import Size
from tests.harness.deployment import ROOMS, Deployment

TARGET_SECONDS = 1.5
LONGEST_SECONDS = 60.0
ABOUT = (
    "From the start of the command `leads up` to the first moment at which all three rooms answer `/readyz` with 200,"
    " with the embedded defaults. The very first start also makes databases, secrets and the staff login."
)


async def measure(size: Size, folder: Path) -> Result:
    """The first start in an empty folder, then others."""
    with own_folder(folder, "start") as room:
        deployment = Deployment(room)
        first = await _seconds(deployment)
        later = [await _seconds(deployment) for _ in range(size.starts)]
    say(f"start: {number(first)} s at first, {spread(later)} s later")
    figures = (
        at_most("start to ready", statistics.median(later), TARGET_SECONDS, "s"),
        reported("the very first start to ready", f"{number(first)} s"),
    )
    rows = (("the very first", number(first)), ("later ones", spread(later)))
    return Result(ABOUT, figures, (Table("Start", ("start", "seconds to ready"), rows),))


async def _seconds(deployment: Deployment) -> float:
    began_at = time.monotonic()
    command = [sys.executable, "-m", "services.cli", "up"]
    server = Server(command, deployment.folder, deployment.environment)
    try:
        async with asyncio.timeout(LONGEST_SECONDS), aiohttp.ClientSession() as session:
            for room in ROOMS:
                while not await _is_ready(session, f"http://127.0.0.1:{deployment.ports[room]}/readyz"):
                    await asyncio.sleep(0.01)
        return time.monotonic() - began_at
    except TimeoutError:
        raise RuntimeError(f"`leads up` did not become ready:\n{server.output()[-3000:]}") from None
    finally:
        server.stop()


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
