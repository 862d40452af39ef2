"""An outbox on a real file with its relay and a bus in memory, and what tests do to them."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import cast

from shared import outbox
from shared.bus import EventBus
from shared.database import Database, table_of
from shared.events import Event
from shared.outbox import OutboxEvent
from shared.relay import Relay
from shared.topology import NOTIFIER_QUEUE, leads_topology
from tests.harness.events import lead_created
from tests.harness.fake_bus import FakeBus

QUEUE = leads_topology().queue(NOTIFIER_QUEUE)


class RelayHouse:
    """The three, wired as the api wires them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = Database(f"sqlite:///{path}")
        self.bus = FakeBus()
        self.relay = Relay(self.database, cast("EventBus", self.bus), [QUEUE])

    async def commit(
        self, count: int = 1, *, correlation_id: str | None = None, traceparent: str | None = None
    ) -> list[str]:
        """As the intake does it; the ids, oldest first."""
        about = {"correlation_id": correlation_id, "traceparent": traceparent}
        events = [Event.of(lead_created(), subject="a lead", **about) for _ in range(count)]
        await self.database.write(partial(outbox.add, events=events))
        return [event.id for event in events]

    def marked(self) -> list[str]:
        """The ids of those that the bus has confirmed, oldest first."""
        with sqlite3.connect(self.path) as connection:
            found = connection.execute("SELECT id FROM outbox WHERE published_at IS NOT NULL ORDER BY id").fetchall()
        connection.close()
        return [row[0] for row in found]

    def make_older(self, by: str) -> None:
        """All events were made so long ago, in SQLite's words: `31 days`."""
        with sqlite3.connect(self.path) as connection:
            connection.execute("UPDATE outbox SET created_at = datetime('now', ?)", (f"-{by}",))
        connection.close()


@asynccontextmanager
async def relay_house(path: Path) -> AsyncIterator[RelayHouse]:
    """Its database is made at `path` and closed in the end."""
    house = RelayHouse(path)
    await house.database.write(lambda session: table_of(OutboxEvent).create(session.connection()))
    yield house
    await house.database.close()


@asynccontextmanager
async def running(relay: Relay) -> AsyncIterator[None]:
    """The relay at its work, ended with the context."""
    task = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Returns when `condition` holds, asked every few milliseconds. Raises `AssertionError` when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.005)
