"""One consumer of the embedded bus: it watches the file, claims what is ready, settles what its handlers are done with.

All it writes is written in turns (`turn`): everything that was settled since the last one shares a transaction
and its flush to the disk. In between it asks SQLite whether another process committed something, and reads only then.

The event loop renews the lease. A loop that is blocked for longer than that loses its claims, as it would lose its
connection to RabbitMQ: the messages are delivered twice, and consumers drop the second by its id. A process that is
stopped just while it writes (some milliseconds) keeps the others waiting until it goes on or is killed.
"""

import asyncio
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import structlog

from shared.bus.embedded import rows
from shared.bus.embedded.file import QueueFile
from shared.bus.embedded.rows import Claim, Settlement
from shared.bus.embedded.turn import Member, Outcome, part, take
from shared.bus.protocol import BusUnavailable, Message
from shared.repeats import Repeats
from shared.topology import Queue

POLL_SECONDS = 0.02
"""How often a consumer with room asks whether another process committed something, and so how late it may notice."""

BUSY_POLL_SECONDS, BUSY_FOR_SECONDS = 0.005, 1.0
"""The same for a while after something came: where one message came another follows."""

BEATS_PER_LEASE = 5
"""Turns in the span of a lease when nothing else calls for one. They are also the sweep for anything overlooked."""

BACK_OFF_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Waits between tries while the file cannot be used; the last one repeats."""


class EmbeddedDelivery:
    """A claimed message. Settling what is no longer ours changes nothing and is logged at debug."""

    def __init__(self, consumer: "EmbeddedConsumer", claim: Claim) -> None:
        self._consumer = consumer
        self.claim = claim

    @property
    def message(self) -> Message:
        return self.claim.message

    @property
    def attempt(self) -> int:
        return self.claim.attempt

    @property
    def redelivered(self) -> bool:
        return self.redeliveries > 0

    @property
    def redeliveries(self) -> int:
        return self.claim.deliveries - 1

    async def ack(self) -> None:
        """Return once the message is gone for good. Raises `BusUnavailable`: then it will be delivered again."""
        await self._consumer.settle(self, self._settlement(rows.ACK))

    async def retry(self, delay_seconds: float, reason: str, *, count_attempt: bool = True) -> None:
        """Return once the message waits in its level. Raises `ValueError` for a delay that is none of the queue's.

        Raises `BusUnavailable`: then it will be delivered again.
        """
        queue = self._consumer.queue
        levels = {level.delay_seconds: level.name for level in queue.retry_levels}
        if delay_seconds not in levels:
            raise ValueError(f"{queue.name} has no retry level of {delay_seconds} s, only {sorted(levels)}")
        values: dict[str, str | float] = {
            "level": levels[delay_seconds],
            "delay": delay_seconds,
            "counted": count_attempt,
            "reason": reason,
        }
        await self._consumer.settle(self, self._settlement(rows.RETRY, values))

    async def dead_letter(self, reason: str) -> None:
        """Return once the message is set aside. Raises `BusUnavailable`: then it will be delivered again."""
        await self._consumer.settle(self, self._settlement(rows.BURY, {"reason": reason}))

    def _settlement(self, statement: str, values: dict[str, str | float] | None = None) -> Settlement:
        return Settlement(statement, self.claim.position, self.claim.consumer, values or {})


@dataclass(frozen=True)
class _Settling:
    """A settlement on its way into the file, and whoever waits for it."""

    delivery: EmbeddedDelivery
    settlement: Settlement
    done: asyncio.Future[None]

    def finish(self, error: Exception | None = None) -> None:
        """Let the one who waits go on, if it did not go away."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class EmbeddedConsumer:
    """The deliveries of one queue, at most `prefetch` of them unsettled."""

    def __init__(self, file: QueueFile, member: Member, prefetch: int) -> None:
        self._file = file
        self._member = member
        self._prefetch = prefetch
        self._log = structlog.get_logger(__name__).bind(queue=member.queue.name, client=member.client_name)
        self._hand: set[EmbeddedDelivery] = set()
        self._arrivals: asyncio.Queue[EmbeddedDelivery | Exception] = asyncio.Queue()
        self._settling: list[_Settling] = []
        self._returns: list[Settlement] = []
        self._wake = asyncio.Event()
        self._tried = asyncio.Event()
        self._leaving = False
        self._version = 0
        self._busy_until = 0.0
        self._failures = 0
        self._repeats = Repeats()
        self._task: asyncio.Task[None] | None = None

    @property
    def queue(self) -> Queue:
        return self._member.queue

    def __aiter__(self) -> "EmbeddedConsumer":
        return self

    async def __anext__(self) -> EmbeddedDelivery:
        arrival = await self._arrivals.get()
        if isinstance(arrival, Exception):
            self._arrivals.put_nowait(arrival)
            raise arrival
        return arrival

    async def start(self) -> None:
        """Return after the first turn, whether or not the file could be used."""
        self._task = asyncio.create_task(self._run(), name=f"bus consumer {self.queue.name}")
        await self._tried.wait()

    async def leave(self) -> None:
        """Put back what is not settled and end the iteration."""
        self._leaving = True
        self._wake.set()
        if self._task is not None:
            # Not awaited itself: whoever cancels us shall not cancel the last turn.
            await asyncio.wait([self._task])

    def notice(self) -> None:
        """Our own process put something into the queue."""
        if self._room > 0:
            self._wake.set()

    async def settle(self, delivery: EmbeddedDelivery, settlement: Settlement) -> None:
        """Return once the settlement is committed. Raises `BusUnavailable` when it could not be."""
        if delivery not in self._hand:
            self._log.debug("bus claim lost", message_id=delivery.message.id)
            return
        settling = _Settling(delivery, settlement, asyncio.get_running_loop().create_future())
        self._settling.append(settling)
        self._wake.set()
        await settling.done

    @property
    def _room(self) -> int:
        return self._prefetch - len(self._hand)

    async def _run(self) -> None:
        try:
            while not self._leaving:
                await self._rest(await self._try_turn())
            await self._part()
        except Exception as error:  # noqa: BLE001 (whoever iterates gets it)
            self._end(error)
        else:
            self._end(StopAsyncIteration())
        finally:
            self._tried.set()

    async def _try_turn(self) -> float:
        """Take a turn; returns the seconds until the next one, if nothing happens before."""
        try:
            outcome = await self._turn()
        except BusUnavailable as error:
            return self._note_failure(error)
        finally:
            self._tried.set()
        self._note_success()
        until_beat = self._member.clock.lease_seconds / BEATS_PER_LEASE
        if outcome.due_in_seconds is None or self._room <= 0:
            return until_beat
        return min(outcome.due_in_seconds, until_beat)

    async def _turn(self) -> Outcome:
        self._wake.clear()
        settling, self._settling = self._settling, []
        settlements = [*self._returns, *(each.settlement for each in settling)]
        room = self._prefetch - len(self._hand - {each.delivery for each in settling})
        work = partial(take, member=self._member, settlements=settlements, room=room)
        try:
            outcome = await self._file.write(work, durable=bool(settling))
        except Exception as error:
            self._give_back(settling, error)
            raise
        settled = outcome.settled[len(self._returns) :]
        self._returns.clear()
        self._finish(settling, settled)
        self._welcome(outcome)
        return outcome

    def _finish(self, settling: Sequence[_Settling], settled: Sequence[bool]) -> None:
        for each, was_ours in zip(settling, settled, strict=True):
            self._hand.discard(each.delivery)
            each.finish()
            if not was_ours:
                self._log.debug("bus claim lost", message_id=each.delivery.message.id)

    def _give_back(self, settling: list[_Settling], error: Exception) -> None:
        """What could not be settled is put back with the next turn that succeeds."""
        for each in settling:
            self._hand.discard(each.delivery)
            self._returns.append(replace(each.settlement, statement=rows.RELEASE, values={}))
            each.finish(error)

    def _welcome(self, outcome: Outcome) -> None:
        if self._member.number not in (None, outcome.number):
            self._log.warning("bus lease lost", unsettled=len(self._hand))
            self._hand.difference_update(self._drain())
        self._member = replace(self._member, number=outcome.number)
        self._version = outcome.version
        if outcome.claims:
            self._busy_until = time.monotonic() + BUSY_FOR_SECONDS
        for claim in outcome.claims:
            delivery = EmbeddedDelivery(self, claim)
            self._hand.add(delivery)
            self._arrivals.put_nowait(delivery)

    def _drain(self) -> list[EmbeddedDelivery]:
        """Take back what nobody has looked at yet."""
        drained = [self._arrivals.get_nowait() for _ in range(self._arrivals.qsize())]
        return [arrival for arrival in drained if isinstance(arrival, EmbeddedDelivery)]

    async def _rest(self, seconds: float) -> None:
        """Until there may be something to do."""
        rest_until = time.monotonic() + seconds
        watching = self._room > 0 and not self._failures
        while not self._wake.is_set() and (left := rest_until - time.monotonic()) > 0:
            poll_seconds = BUSY_POLL_SECONDS if time.monotonic() < self._busy_until else POLL_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, poll_seconds) if watching else left):
                    await self._wake.wait()
            if watching and await self._sees_news():
                return

    async def _sees_news(self) -> bool:
        try:
            return await self._file.read(self._look)
        except BusUnavailable:
            return True  # The turn that follows meets the same trouble and deals with it.

    def _look(self, connection: sqlite3.Connection) -> bool:
        return rows.data_version(connection) != self._version and rows.has_ready(connection, self.queue)

    async def _part(self) -> None:
        settling, self._settling = self._settling, []
        self._hand.clear()
        settlements = [each.settlement for each in settling]
        try:
            settled = await self._file.write(partial(part, number=self._member.number, settlements=settlements))
        except BusUnavailable as error:
            self._log.warning("bus unavailable", reason=str(error))
            self._give_back(settling, error)
        else:
            self._finish(settling, settled)

    def _end(self, reason: Exception) -> None:
        self._hand.clear()
        self._drain()
        for each in self._settling:
            each.finish(reason)
        self._arrivals.put_nowait(reason)

    def _note_failure(self, error: BusUnavailable) -> float:
        wait_seconds = BACK_OFF_SECONDS[min(self._failures, len(BACK_OFF_SECONDS) - 1)]
        self._failures += 1
        if self._repeats.is_news(str(error)):
            self._log.warning("bus unavailable", reason=str(error))
        return wait_seconds

    def _note_success(self) -> None:
        if self._failures:
            self._log.info("bus available", failures=self._failures)
            self._repeats.over()
        self._failures = 0
