"""A server process of the benchmark: started in a folder of its own, waited for, measured, and ended by its own id."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import aiohttp
import psutil

from tests.harness.deployment import ROOT

MIB = 1024 * 1024
READY_SECONDS = 60.0
STOP_SECONDS = 15.0


class Server:
    """One process and what it wrote, in `<folder>/output.log`."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "output.log"
        surroundings = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT), **(environment or {})}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=surroundings, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def output(self) -> str:
        """What it wrote so far."""
        return self._log.read_text(errors="replace")

    async def ready(self, url: str) -> None:
        """Wait until the URL is answered with any status. Raises `RuntimeError` with what the process wrote.

        Whatever is raised, the process is ended.
        """
        try:
            came_up = await self._answers(url)
        except BaseException:
            self.stop()
            raise
        if not came_up:
            self.stop()
            raise RuntimeError(f"it did not come up:\n{self.output()[-3000:]}")

    async def _answers(self, url: str) -> bool:
        deadline = time.monotonic() + READY_SECONDS
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline and self._process.poll() is None:
                try:
                    async with session.get(url):
                        return True
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
        return False

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not help in time, or when waiting for it is interrupted."""
        if self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.wait()


def resident_mib(pids: Iterable[int]) -> float:
    """Resident memory of these processes and their children."""
    return sum(process.memory_info().rss for process in _with_children(pids)) / MIB


def processor_seconds(pids: Iterable[int]) -> float:
    """Processor time of these processes and their children so far; that of children which have ended is lost."""
    times = [process.cpu_times() for process in _with_children(pids)]
    return sum(time.user + time.system for time in times)


def _with_children(pids: Iterable[int]) -> list[psutil.Process]:
    firsts = [psutil.Process(pid) for pid in pids]
    return [process for first in firsts for process in (first, *first.children(recursive=True))]
