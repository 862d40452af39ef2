"""Programs that are not ours and that the contract tests run: validators, a consumer, a generator of clients."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.harness.deployment import ROOT

MISSING = "What this test runs is not installed here: run `scripts/contract-tools`, which says what it needs."

NODE = ROOT / "tests" / "contract" / "node"
CLIENT = ROOT / ".venv" / "client"


def node_is_here() -> bool:
    """Whether there is Node.js, with what `package-lock.json` lists."""
    return shutil.which("node") is not None and (NODE / "node_modules" / ".package-lock.json").exists()


def client_generator_is_here() -> bool:
    """Whether what `requirements/client.txt` lists has been installed."""
    return (CLIENT / ".installed").exists()


def run(*command: str | Path, **options: Any) -> str:
    """What the program printed. A failure is an `AssertionError` with all that it said."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, **options
    )
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@asynccontextmanager
async def node_program(*arguments: str) -> AsyncIterator[asyncio.StreamReader]:
    """The lines that a program of ours for Node.js prints while it runs. It is ended afterwards."""
    process = await asyncio.create_subprocess_exec("node", *arguments, cwd=NODE, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield process.stdout
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
