"""The notifier's parts in a test's own process, wired as `services/notifier/main.py` wires them, before a stand-in.

Its pauses, and they alone, may run `faster`: what a process waits for in minutes takes a test some milliseconds, and
goes the same way. `rig.py` does the same with real processes, and at the pace of real life.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from services.notifier.circuit import Circuit, CircuitPolicy
from services.notifier.compose import composer_of
from services.notifier.consumer import given_up, subscriptions
from services.notifier.delivery import HOLD_SECONDS, Composer, Delivery
from services.notifier.settings import MIGRATIONS, NotifierSettings
from services.notifier.tables import Email, EmailState
from services.notifier.transport import SendGridTransport, Timeouts
from shared.bus import EventBus, QueueStats, bus_for
from shared.bus.protocol import Message
from shared.database import Database
from shared.events import MEDIA_TYPE, Event
from shared.topology import NOTIFIER_QUEUE, Queue, leads_topology
from shared.worker import Worker
from tests.harness.events import event, lead_created
from tests.harness.sendgrid import SendGridStandIn
from tests.harness.sizes import STAFF

CONCURRENCY = 16
FAST = Timeouts(connect_seconds=0.5, read_seconds=0.5, total_seconds=1.0)
RETRY_DELAYS_SECONDS = (0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Notifier:
    """A running notifier and all that is around it."""

    bus: EventBus
    queue: Queue
    database: Database
    circuit: Circuit
    sendgrid: SendGridStandIn

    async def publish(self, events: Sequence[Event]) -> None:
        """As the relay does."""
        await self.bus.publish([message_of(one) for one in events])

    async def emails(self) -> list[Email]:
        """Every row."""
        return list(await self.database.read(lambda session: session.execute(select(Email)).scalars().all()))

    async def stats(self) -> QueueStats:
        return await self.bus.stats(self.queue)

    async def settled(self, emails: int, *, within_seconds: float, dead: int = 0) -> float:
        """Seconds until so many e-mails are sent and nothing waits but `dead` dead letters. Fails when that is late."""
        began_at = time.monotonic()
        while not await self._is_settled(emails, dead):
            waited_seconds = time.monotonic() - began_at
            assert waited_seconds < within_seconds, f"stuck: {await self.stats()}, {self.circuit.reason}"
            await asyncio.sleep(0.02)
        return time.monotonic() - began_at

    async def _is_settled(self, emails: int, dead: int) -> bool:
        stats = await self.stats()
        if (stats.ready + (stats.unacked or 0) + sum(stats.retrying.values()), stats.dead) != (0, dead):
            return False
        return [email.state for email in await self.emails()].count(EmailState.SENT) == emails


@asynccontextmanager
async def notifying(
    folder: Path,
    sendgrid: SendGridStandIn,
    *,
    broker_url: str | None = None,
    faster: float = 1.0,
    failures: int = CircuitPolicy.failures,
    retry_delays_seconds: Sequence[float] = RETRY_DELAYS_SECONDS,
) -> AsyncIterator[Notifier]:
    """A notifier at work in `folder`, on the embedded bus or at `broker_url`, whose pauses run so many times faster.

    Its circuit opens after so many `failures` in a row.
    """
    topology = leads_topology(retry_delays_seconds)
    queue = topology.queue(NOTIFIER_QUEUE)
    database = Database(f"sqlite:///{folder / 'notifier.db'}")
    await database.migrate(MIGRATIONS)
    settings = NotifierSettings(staff_email=STAFF)
    transport = SendGridTransport(
        api_key="SG.k.k",
        sender=settings.sender,
        base_url=sendgrid.base_url,
        timeouts=FAST,
        concurrent_sends=2 * CONCURRENCY,
    )
    circuit = Circuit(_policy(faster, failures))
    composer = Composer(composer_of(settings), settings.prospect_mails_per_day)
    delivery = Delivery(database, transport, circuit, composer, hold_seconds=HOLD_SECONDS / faster)
    bus = bus_for(broker_url or f"sqlite:///{folder / 'queue.db'}", topology, client_name="notifier")
    worker = Worker(bus, queue, subscriptions(delivery), concurrency=CONCURRENCY, given_up=given_up(delivery))
    await bus.open()
    working = asyncio.create_task(worker.run())
    try:
        yield Notifier(bus, queue, database, circuit, sendgrid)
    finally:
        worker.stop()
        await asyncio.wait({working}, timeout=10)
        await bus.close()
        await transport.close()
        await database.close()


def events(count: int) -> list[Event]:
    """Events of so many leads, each of another person."""
    return [event(lead_created(f"person{number}@example.com")) for number in range(count)]


def message_of(published: Event, **changes: Any) -> Message:
    """The message that the relay makes of an event."""
    given = {
        "id": published.id,
        "routing_key": published.type,
        "body": published.encode(),
        "content_type": MEDIA_TYPE,
    }
    return Message(**{**given, **changes})


async def until(condition: Callable[[], bool], within_seconds: float = 10.0) -> None:
    """Wait for it. Fails when it does not come to that."""
    async with asyncio.timeout(within_seconds):
        while not condition():
            await asyncio.sleep(0.005)


def _policy(faster: float, failures: int) -> CircuitPolicy:
    real = CircuitPolicy()
    return CircuitPolicy(
        failures=failures,
        first_pause_seconds=real.first_pause_seconds / faster,
        longest_pause_seconds=real.longest_pause_seconds / faster,
        unauthorized_pause_seconds=real.unauthorized_pause_seconds / faster,
    )
