"""What tests of a bus do with one, whatever carries it: publish, receive, set aside, settle, wait and see."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from shared.bus import Delivery, EventBus, Message, PublishFailed, QueueStats
from shared.ids import new_id
from shared.topology import Queue

HAPPENED = "thing.happened"
ENDED = "thing.ended"
SHORT_SECONDS, LONG_SECONDS = 0.3, 0.6
"""The retry delays."""

QUIET_SECONDS = 0.4
"""So long nothing must come that should not."""

ARRIVAL_SECONDS = 20.0
"""So long a message may take that should come: a killed consumer's lease runs out within, and a broker starts."""

BusFactory = Callable[[], EventBus]


def message(routing_key: str = HAPPENED, body: bytes = b"{}") -> Message:
    """A new one."""
    return Message(new_id(), routing_key, body)


async def receive(deliveries: AsyncIterator[Delivery]) -> Delivery:
    """The next delivery. Raises `TimeoutError` when none comes."""
    async with asyncio.timeout(ARRIVAL_SECONDS):
        return await anext(deliveries)


async def is_quiet(deliveries: AsyncIterator[Delivery]) -> bool:
    """Whether nothing comes for a while."""
    waiting = asyncio.ensure_future(anext(deliveries))
    await asyncio.wait({waiting}, timeout=QUIET_SECONDS)
    if waiting.done():
        return False
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return True


async def eventually(look: Callable[[], Awaitable[QueueStats]], holds: Callable[[QueueStats], bool]) -> QueueStats:
    """What is seen once it holds. Raises `TimeoutError` when it never does."""
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while not holds(seen := await look()):
            await asyncio.sleep(0.02)
    return seen


async def bury(bus: EventBus, queue: Queue, count: int, reason: str = "it cannot be read") -> list[str]:
    """Publishes `count` messages and sets them aside; returns their ids, oldest first."""
    messages = [message(body=str(number).encode()) for number in range(count)]
    await bus.publish(messages)
    async with bus.consume(queue, prefetch=1) as deliveries:
        for _ in messages:
            await (await receive(deliveries)).dead_letter(reason)
    return [message.id for message in messages]


async def settle_all(bus: EventBus, queue: Queue, count: int) -> list[Delivery]:
    """Receives and acknowledges so many, in the order in which they come."""
    received = []
    async with bus.consume(queue, prefetch=50) as deliveries:
        for _ in range(count):
            received.append(await receive(deliveries))
            await received[-1].ack()
    return received


async def publish_until_confirmed(bus: EventBus, messages: list[Message]) -> int:
    """As the relay does: what is not confirmed is sent again. Returns how often that was."""
    failures = 0
    waiting = {message.id: message for message in messages}
    async with asyncio.timeout(ARRIVAL_SECONDS):
        while waiting:
            try:
                await bus.publish(list(waiting.values()))
            except PublishFailed as error:
                failures += 1
                for event_id in error.confirmed:
                    del waiting[event_id]
                await asyncio.sleep(0.1)
            else:
                waiting.clear()
    return failures
