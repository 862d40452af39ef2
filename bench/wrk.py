"""Running wrk, the load generator (closed model: each of the connections sends again once it was answered)."""

import asyncio
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 32
RESUME_BYTES = 64 * 1024
MISSING = "wrk is not installed (Debian: apt-get install wrk)"
_SCRIPTS = Path(__file__).parent


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw. `refused` were answered with a status over 399, `broken` not at all."""

    accepted: int
    refused: int
    broken: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Requests a second that were answered well."""
        return self.accepted / self.seconds


def is_here() -> bool:
    """Whether it is installed."""
    return shutil.which("wrk") is not None


async def post_leads(url: str, seconds: int, resume_bytes: int = RESUME_BYTES) -> Load:
    """Send leads to that URL as fast as they are taken: the same PDF, one address a request that nobody else has."""
    environment = {"RESUME_BYTES": str(resume_bytes), "RUN_ID": uuid.uuid4().hex[:8]}
    return await _run(url, "intake.lua", seconds, environment, {})


async def get(url: str, seconds: int, headers: Mapping[str, str]) -> Load:
    """Ask for that URL as fast as it is answered."""
    return await _run(url, "get.lua", seconds, {}, headers)


def parse(output: str) -> Load:
    """What our scripts print at the end. Raises `ValueError` when they did not come so far."""
    numbers = next((line.split()[1:] for line in output.splitlines() if line.startswith("RESULT ")), None)
    if numbers is None:
        raise ValueError(f"wrk told nothing:\n{output}")
    requests, refused, broken = map(int, numbers[:3])
    return Load(requests - refused, refused, broken, *map(float, numbers[3:]))


async def _run(url: str, script: str, seconds: int, environment: Mapping[str, str], headers: Mapping[str, str]) -> Load:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "30s", "-s", str(_SCRIPTS / script)]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    done = await asyncio.to_thread(
        subprocess.run, [*command, url], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"wrk ended with {done.returncode}: {done.stderr}{done.stdout}")
    return parse(done.stdout)
