"""An embedded bus for tests, and children that use the same file: `python -m tests.harness.embedded consume FILE`."""

import asyncio
import os
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import structlog

from shared.bus.embedded import EmbeddedBus
from shared.bus.protocol import BusUnavailable, Delivery, Message
from shared.ids import new_id
from shared.topology import Queue, Topology

QUEUE = Queue("work", ("thing.happened",), (0.2, 60.0))
TOPOLOGY = Topology(queues=(QUEUE,))
SHORT_LEASE_SECONDS = 0.5
LONG_LEASE_SECONDS = 60.0
"""Its beat comes every 12 s: whatever a test sees earlier was not the sweep's doing."""

BATCH_SIZE = 200

_ROOT = Path(__file__).parents[2]
_NOBODY = 65534


def embedded(path: Path, lease_seconds: float = LONG_LEASE_SECONDS) -> EmbeddedBus:
    return EmbeddedBus(path, TOPOLOGY, client_name="test", lease_seconds=lease_seconds)


def message(body: bytes = b"{}") -> Message:
    return Message(new_id(), "thing.happened", body)


async def receive(deliveries: AsyncIterator[Delivery], within_seconds: float = 5.0) -> Delivery:
    async with asyncio.timeout(within_seconds):
        return await anext(deliveries)


def execute(path: Path, statement: str) -> list[Any]:
    """Look into the file, or change it, behind the bus's back."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def let_leases_run_out(path: Path) -> None:
    execute(path, "UPDATE consumer SET beat_at = beat_at - 3600")


class Child:
    """A process of its own that uses the file."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def said(self) -> str:
        """The next line it printed."""
        assert self.process.stdout is not None
        async with asyncio.timeout(10):
            return (await self.process.stdout.readline()).decode().strip()

    async def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"go on\n")
        await self.process.stdin.drain()


@asynccontextmanager
async def child(command: str, path: Path) -> AsyncIterator[Child]:
    """Run one of `COMMANDS` over `path`; it is killed at the end."""
    pipe = asyncio.subprocess.PIPE
    arguments = ("-m", __name__, command, str(path))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=_ROOT, stdin=pipe, stdout=pipe)
    try:
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def consume(path: Path) -> None:
    """Print each message's id, wait to be told, acknowledge it, say so."""
    async with embedded(path, SHORT_LEASE_SECONDS) as bus, bus.consume(QUEUE, 1) as deliveries:
        async for delivery in deliveries:
            print(delivery.message.id, flush=True)
            await asyncio.to_thread(sys.stdin.readline)
            await delivery.ack()
            print("settled", flush=True)


async def publish(path: Path) -> None:
    """Publish numbered batches without end and print the number of each that is confirmed."""
    async with embedded(path) as bus:
        for batch in range(100_000):
            await bus.publish([Message(f"{batch}-{n}", "thing.happened", b"x" * 500) for n in range(BATCH_SIZE)])
            print(batch, flush=True)


async def publish_unprivileged(path: Path) -> None:
    """Publish as a user that file modes apply to, and print why it could not."""
    if os.geteuid() == 0:
        os.setuid(_NOBODY)
    try:
        async with embedded(path) as bus:
            await bus.publish([message()])
    except BusUnavailable as error:
        print(error, flush=True)


async def fail(path: Path) -> None:
    """Open the bus and end without closing it."""
    await embedded(path).open()
    sys.exit(1)


COMMANDS = {"fail": fail, "consume": consume, "publish": publish, "publish-unprivileged": publish_unprivileged}

if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(COMMANDS[sys.argv[1]](Path(sys.argv[2])))
