"""The consume loop: read, dispatch, settle once. Retry, dead letter and pause wrap the handler from outside.

A handler returns when its work is done, and otherwise says what should become of the message: `Retry` (next level),
`GiveUp` (dead letter at once) or `Hold` (not this message's fault: come back without counting an attempt). Whatever
else it raises is a defect, is logged with its stack, and takes the way of a `Retry`.

Before a message is set aside, whoever subscribed to its event may write down what that means for its own rows.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import structlog
from opentelemetry.trace import Span
from pydantic import ValidationError

from shared.bus.protocol import BusUnavailable, Delivery, EventBus, Message
from shared.events import Event, EventData, UnknownEventType
from shared.metrics import EVENTS_HANDLED, EVENTS_IN_HAND
from shared.observe import begin_correlation
from shared.repeats import Repeats
from shared.topology import REDELIVERY_LIMIT, Queue
from shared.tracing.messages import processing
from shared.tracing.spans import failing

STOP_GRACE_SECONDS = 7.5
"""How long work in hand may take to finish after a stop; what does not is delivered again elsewhere. The lame duck's
moment goes before, the closing of the bus comes after, and after 10 s a supervisor kills."""

OPEN_AGAIN_SECONDS = (0.2, 0.5, 1.0)
"""Waits between attempts to open the bus; the last one repeats, so that a returned broker is found within 1 s."""

MAX_EVENT_BYTES = 256 * 1024
"""Far above what an event of ours takes (some 5 KiB at most), and read in a moment."""

OUTCOMES = ("ack", "retry", "hold", "dead")

log = structlog.get_logger()

Handler = Callable[[Event, Any], Awaitable[None]]
Subscriptions = Mapping[type[EventData], Handler]
Begun = TypeVar("Begun")
GivenUp = Callable[[Event, Any, str], Awaitable[None]]
"""Told of an event that becomes a dead letter, and why. May raise `Hold`; anything else keeps nothing from the pile."""


class Retry(Exception):  # noqa: N818
    """It did not work now and may work later."""


class GiveUp(Exception):  # noqa: N818
    """It will never work: set the message aside with this reason."""


class Hold(Exception):  # noqa: N818
    """What the work needs is away for longer than a message may be held in hand; the attempt does not count."""


class Worker:
    """Consumes one queue with at most `concurrency` messages in hand."""

    def __init__(
        self,
        bus: EventBus,
        queue: Queue,
        subscriptions: Subscriptions,
        *,
        concurrency: int,
        given_up: Mapping[type[EventData], GivenUp] = MappingProxyType({}),
    ) -> None:
        self._bus = bus
        self._queue = queue
        self._subscriptions = subscriptions
        self._concurrency = concurrency
        self._given_up = given_up
        self._in_hand: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self.trouble: str | None = None
        """Why the bus could not be opened, for `/readyz`; None once it was."""
        for outcome in OUTCOMES:
            EVENTS_HANDLED.labels(queue.name, outcome)  # there from the start: a first dead letter is seen as a rise
        EVENTS_IN_HAND.labels(queue.name).set_function(lambda: len(self._in_hand))

    async def check(self) -> None:
        """Raises while the bus has not been opened."""
        if self.trouble:
            raise RuntimeError(self.trouble)

    def stop(self) -> None:
        """Take no further message; `run` returns when those in hand are finished."""
        self._stopping.set()

    async def run(self) -> None:
        """Consume until `stop`. A broker that is away is waited for.

        Raises `RuntimeError` when the bus ends its deliveries by itself, which it never should: nobody would see it.
        """
        async with contextlib.AsyncExitStack() as consuming:
            deliveries = await self._unless_stopped(self._begin(consuming))
            if deliveries is None:
                return
            async for delivery in self._until_stopped(deliveries):
                task = asyncio.create_task(self._handle(delivery))
                self._in_hand.add(task)
                task.add_done_callback(self._in_hand.discard)
            await self._finish_in_hand()
        if not self._stopping.is_set():
            raise RuntimeError(f"the bus ended the deliveries of {self._queue.name}, though nobody asked it to")

    async def _begin(self, consuming: contextlib.AsyncExitStack) -> AsyncIterator[Delivery]:
        """Open the bus, however long that takes."""
        repeats = Repeats()
        for wait_seconds in itertools.chain(OPEN_AGAIN_SECONDS, itertools.repeat(OPEN_AGAIN_SECONDS[-1])):
            try:
                await self._bus.open()
            except BusUnavailable as error:
                self.trouble = str(error)
                if repeats.is_news(str(error)):
                    log.warning("bus unavailable", queue=self._queue.name, reason=str(error))
                await asyncio.sleep(wait_seconds)
            else:
                break
        self.trouble = None
        return await consuming.enter_async_context(self._bus.consume(self._queue, prefetch=self._concurrency))

    async def _unless_stopped(self, beginning: Awaitable[Begun]) -> Begun | None:
        """None, and it is cancelled, when a stop is asked for before: a broker that hangs keeps nobody."""
        begun, stopped = asyncio.ensure_future(beginning), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({begun, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return begun.result() if begun.done() else None
        finally:
            for task in (begun, stopped):
                task.cancel()
            await asyncio.gather(begun, stopped, return_exceptions=True)

    async def _until_stopped(self, deliveries: AsyncIterator[Delivery]) -> AsyncIterator[Delivery]:
        stopped = asyncio.ensure_future(self._stopping.wait())
        try:
            while not stopped.done():
                following = asyncio.ensure_future(anext(deliveries))
                await asyncio.wait({following, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if not following.done():
                    following.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await following
                    return
                if isinstance(following.exception(), StopAsyncIteration):
                    return
                yield following.result()
        finally:
            stopped.cancel()

    async def _finish_in_hand(self) -> None:
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=STOP_GRACE_SECONDS)
        for task in self._in_hand:
            task.cancel()
        await asyncio.gather(*self._in_hand, return_exceptions=True)

    async def _handle(self, delivery: Delivery) -> None:
        message = delivery.message
        begin_correlation(message.correlation_id or message.id, event_id=message.id)
        with processing(self._bus.system, self._queue.name, delivery) as span:
            try:
                outcome = await self._settle(delivery, span)
            except BusUnavailable as error:
                log.warning("not settled, the bus will deliver it again", reason=str(error))
                return
            span.set_attribute("leads.outcome", outcome)
        EVENTS_HANDLED.labels(self._queue.name, outcome).inc()

    async def _settle(self, delivery: Delivery, span: Span) -> str:
        try:
            with failing(span):
                await self._dispatch(delivery)
        except GiveUp as error:
            return await self._dead_letter(delivery, str(error))
        except Hold as error:
            return await self._hold(delivery, str(error))
        except Retry as error:
            return await self._retry(delivery, str(error))
        except Exception as error:
            log.exception("handler failed", type=delivery.message.routing_key)
            return await self._retry(delivery, f"unexpected {type(error).__name__}")
        await delivery.ack()
        return "ack"

    async def _dispatch(self, delivery: Delivery) -> None:
        if delivery.redeliveries >= REDELIVERY_LIMIT:
            raise GiveUp(f"its consumer went away with it in hand, {delivery.redeliveries} times")
        event, data = _read(delivery.message)
        handler = self._subscriptions.get(type(data))
        if handler is None:
            raise GiveUp(f"nobody here handles {event.type!r}")
        await handler(event, data)

    async def _hold(self, delivery: Delivery, reason: str) -> str:
        delay = self._queue.retry_delays_seconds[0]
        log.info("held", again_in_seconds=delay, reason=reason)
        await delivery.retry(delay, reason, count_attempt=False)
        return "hold"

    async def _retry(self, delivery: Delivery, reason: str) -> str:
        delays = self._queue.retry_delays_seconds
        if delivery.attempt > len(delays):
            return await self._dead_letter(delivery, f"{reason} (after {delivery.attempt} attempts)")
        delay = delays[delivery.attempt - 1]
        log.warning("will retry", attempt=delivery.attempt, delay_seconds=delay, reason=reason)
        await delivery.retry(delay, reason)
        return "retry"

    async def _dead_letter(self, delivery: Delivery, reason: str) -> str:
        """Rows first: after a crash in between the message comes again, is tried once more, and ends here or well."""
        try:
            await self._tell(delivery.message, reason)
        except Hold as error:
            return await self._hold(delivery, str(error))
        except Exception:
            log.exception("dead letter not noted", type=delivery.message.routing_key)
        log.error("dead letter", attempt=delivery.attempt, reason=reason)
        await delivery.dead_letter(reason)
        return "dead"

    async def _tell(self, message: Message, reason: str) -> None:
        try:
            event, data = _read(message)
        except GiveUp:
            return  # nobody has ever seen what it says
        told = self._given_up.get(type(data))
        if told is not None:
            await told(event, data, reason)


def _read(message: Message) -> tuple[Event, EventData]:
    """The event and its data. Raises `GiveUp`, naming the place and repeating nothing of the content."""
    if len(message.body) > MAX_EVENT_BYTES:
        raise GiveUp(f"too large for an event: {len(message.body)} bytes, at most {MAX_EVENT_BYTES}")
    try:
        event = Event.model_validate_json(message.body)
        data = event.payload()
    except ValidationError as error:
        where = ", ".join(".".join(str(part) for part in one["loc"]) or "body" for one in error.errors()[:5])
        raise GiveUp(f"cannot be read: {where}") from error
    except UnknownEventType as error:
        raise GiveUp(f"sent as {message.routing_key!r}, and {error}") from error
    if event.type != message.routing_key:
        raise GiveUp(f"sent as {message.routing_key!r}, and its body is of another type")
    return event, data
