"""Runs the `leads` command as a person at a terminal would, against a deployment."""

import asyncio
from dataclasses import dataclass

from tests.harness.deployment import ROOT, Deployment

COMMAND_SECONDS = 30.0


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    status: int
    output: str
    errors: str


async def leads(deployment: Deployment, *arguments: str, stdin: str = "") -> Done:
    """`./leads ARGUMENTS...` with the deployment's settings."""
    process = await asyncio.create_subprocess_exec(
        ROOT / "leads",
        *arguments,
        env={**deployment.environment, "COLUMNS": "300"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(COMMAND_SECONDS):
        output, errors = await process.communicate(stdin.encode())
    return Done(process.returncode or 0, output.decode(), errors.decode())
