"""A supervisor over stand-in rooms, as a process of its own: what its tests start, signal and read.

Run as `python -m tests.harness.supervised ROOMS`, ROOMS being JSON; prints `ready` when every room is.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import psutil

from services.cli.room import PortTaken, Room, check_port
from services.cli.signals import StopSignals
from services.cli.supervisor import Supervisor
from shared.observe import configure_logs

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 20.0


class Supervised:
    """The running supervisor, and what it printed."""

    def __init__(self, process: subprocess.Popen[str], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def events(self) -> list[dict[str, object]]:
        """The log lines so far."""
        return [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]

    def wait_for(self, text: str, *, times: int = 1) -> None:
        """Returns when `text` was printed so often; fails the test when that takes too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.output.count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} was not printed {times} times in:\n{self.output}"
            time.sleep(0.02)

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        return self.process.wait(timeout=PATIENCE_SECONDS)


@contextmanager
def supervised(rooms: Sequence[Room], output: Path) -> Iterator[Supervised]:
    """Start a supervisor of `rooms`; whatever is left of it at the end is killed."""
    command = [sys.executable, "-m", "tests.harness.supervised", json.dumps([asdict(room) for room in rooms])]
    with started(command, output, {**os.environ}) as running:
        yield running


@contextmanager
def started(command: Sequence[str], output: Path, environment: Mapping[str, str]) -> Iterator[Supervised]:
    """Start a process that supervises others; whatever is left of it and of them at the end is killed."""
    with output.open("w") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
    running = Supervised(process, output)
    try:
        yield running
    finally:
        if process.poll() is None:
            family = [psutil.Process(process.pid), *running.children()]
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.kill()
            process.wait()


def stand_in(name: str, *arguments: str, **more: object) -> Room:
    """A room that is no room: see `stand_in.py` for its arguments."""
    from tests.harness.deployment import free_ports  # heavy, and not needed by the supervisor's own process

    (port,) = free_ports(1)
    script = str(Path(__file__).with_name("stand_in.py"))
    return Room(
        name=name,
        command=(sys.executable, "-S", script, str(port), *arguments),
        port=port,
        ready_url=f"http://127.0.0.1:{port}/readyz",
        port_setting=f"LEADS_{name.upper()}_PORT",
        **more,  # type: ignore[arg-type]
    )


async def _main(rooms: list[Room]) -> int:
    signals = StopSignals()
    configure_logs("leads", "INFO", "json")
    try:
        for room in rooms:
            check_port(room, "127.0.0.1")
    except PortTaken as error:
        sys.stderr.write(f"leads: {error}\n")
        return os.EX_UNAVAILABLE
    return await Supervisor(rooms, signals, lambda: print("ready", flush=True)).run()


def _rooms(text: str) -> list[Room]:
    return [
        Room(**{**room, "command": tuple(room["command"]), "needed_by": tuple(room["needed_by"])})
        for room in json.loads(text)
    ]


if __name__ == "__main__":
    sys.exit(asyncio.run(_main(_rooms(sys.argv[1]))))
