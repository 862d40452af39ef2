"""The embedded size of the bus: one SQLite file shared by the processes of one machine, with the verbs of RabbitMQ.

Here is what a service holds in its hand. The file is `file`, its tables `schema`, what happens to its
rows `rows`, and how a consumer works through them `consumer` and `turn`.

Times are wall-clock times (why: `turn.Clock`). What is ready stays ready whatever the clock says; after a jump
forward retries come early, after a jump back none waits longer than its whole delay from then.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Self

from shared.bus.embedded import rows
from shared.bus.embedded.consumer import EmbeddedConsumer
from shared.bus.embedded.file import QueueFile
from shared.bus.embedded.turn import Clock, Member
from shared.bus.protocol import BusUnavailable, DeadLetter, Delivery, Message, PublishFailed, QueueStats
from shared.topology import Queue, Topology

LEASE_SECONDS = 5.0
"""How long a consumer may be silent before its messages go to others. It renews five times in that span."""

LISTED_AT_ONCE = 2000
"""Messages of one read of a listing: each read is short, so that nobody waits for it."""


class EmbeddedBus:
    """A durable bus in the file `path`: folder and file are made for their owner alone, as it holds personal data.

    Every verb raises `BusUnavailable` with one line for the operator. Processes may use different leases.
    """

    system = "sqlite"

    def __init__(
        self, path: Path, topology: Topology, *, client_name: str, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._file = QueueFile(path)
        self._topology = topology
        self._client_name = client_name
        self._lease_seconds = lease_seconds
        self._consumers: set[EmbeddedConsumer] = set()

    async def open(self) -> None:
        """Create the file, or check that it is ours and not newer than we are. Queues need no declaration here."""
        await self._file.open()

    async def close(self) -> None:
        """Return what consumers have in hand and let go of the file. Safe to call twice."""
        for consumer in tuple(self._consumers):
            await consumer.leave()
        await self._file.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def publish(self, messages: Sequence[Message]) -> None:
        """Keep the whole batch in one transaction, flushed to the disk, or none of it.

        Raises `PublishFailed`: either nothing is confirmed, or all but what no queue takes.
        """
        routed = [(queue, message) for message in messages for queue in self._topology.routes(message.routing_key)]
        if routed:
            await self._keep(routed)
        taken = frozenset(message.id for _, message in routed)
        lost = sorted({message.routing_key for message in messages if message.id not in taken})
        if lost:
            raise PublishFailed(f"No queue takes messages with the routing key {', '.join(lost)}.", taken)

    @asynccontextmanager
    async def consume(self, queue: Queue, prefetch: int) -> AsyncIterator[AsyncIterator[Delivery]]:
        """Deliveries of `queue`, those first that have been ready longest.

        Raises `ValueError` for a prefetch below 1. A file that cannot be used just now is waited for.
        """
        if prefetch < 1:
            raise ValueError(f"A consumer needs room for at least one message, not {prefetch}.")
        if not self._file.is_open:
            raise BusUnavailable("The bus is not open.")
        member = Member(queue, self._client_name, Clock(self._lease_seconds))
        consumer = EmbeddedConsumer(self._file, member, prefetch)
        self._consumers.add(consumer)
        try:
            await consumer.start()
            yield consumer
        finally:
            self._consumers.discard(consumer)
            await consumer.leave()

    @asynccontextmanager
    async def renewals(self, queue: Queue) -> AsyncIterator[bool]:
        """Queues are rows here: only all of them can be missing, with the file."""
        del queue
        # Written, not read: a file that was deleted in use can be read for ever.
        renewed = await self._file.write(rows.is_renewed, durable=False)
        yield renewed
        if renewed:
            await self._file.write(rows.forget_renewals)

    async def stats(self, queue: Queue) -> QueueStats:
        return await self._file.read(partial(rows.count, queue=queue, now=time.time()))

    async def listing(self, queue: Queue) -> AsyncIterator[Sequence[str]]:
        """By position, which a message keeps for as long as it is here."""
        after = 0
        while page := await self._file.read(partial(rows.list_after, queue=queue, after=after, limit=LISTED_AT_ONCE)):
            yield [id_ for _, id_ in page]
            after = page[-1][0]

    async def peek(self, queue: Queue, limit: int) -> list[DeadLetter]:
        return await self._file.read(partial(rows.dead_letters, queue=queue, limit=limit))

    async def replay(self, queue: Queue, ids: Sequence[str] | None = None) -> int:
        replayed = await self._change_dead(rows.REPLAY, queue, ids)
        self._notice([queue])
        return replayed

    async def purge(self, queue: Queue, ids: Sequence[str] | None = None) -> int:
        return await self._change_dead(rows.PURGE, queue, ids)

    async def _keep(self, routed: Sequence[tuple[Queue, Message]]) -> None:
        try:
            await self._file.write(partial(rows.insert, routed=routed, now=time.time()))
        except BusUnavailable as error:
            raise PublishFailed(str(error)) from error
        finally:
            # Also when the caller was cancelled: the transaction goes on without it.
            self._notice([queue for queue, _ in routed])

    async def _change_dead(self, statement: str, queue: Queue, ids: Sequence[str] | None) -> int:
        work = partial(rows.change_dead, statement=statement, queue=queue, ids=ids, now=time.time())
        return await self._file.write(work)

    def _notice(self, queues: Sequence[Queue]) -> None:
        names = {queue.name for queue in queues}
        for consumer in self._consumers:
            if consumer.queue.name in names:
                consumer.notice()
