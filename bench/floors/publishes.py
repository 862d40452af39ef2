"""How many messages a second a quorum queue confirms to one connection with many of them in flight."""

import asyncio
import time
from itertools import count

import aio_pika

from bench.events import body

IN_FLIGHT = 256


async def publishes_per_second(url: str, seconds: float) -> float:
    """Persistent messages as long as a real event, each confirmed. Raises `AssertionError` when the queue lacks one."""
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        queue = await channel.declare_queue("floor", durable=True, arguments={"x-queue-type": "quorum"})
        content, numbers = body(), count()
        end_at = time.monotonic() + seconds

        async def work() -> int:
            done = 0
            while time.monotonic() < end_at:
                message = aio_pika.Message(
                    content, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, message_id=str(next(numbers))
                )
                await channel.default_exchange.publish(message, routing_key=queue.name)
                done += 1
            return done

        began_at = time.monotonic()
        confirmed = sum(await asyncio.gather(*(work() for _ in range(IN_FLIGHT))))
        took = time.monotonic() - began_at
        await _check(channel, queue.name, confirmed)
    return confirmed / took


async def _check(channel: aio_pika.abc.AbstractChannel, name: str, confirmed: int) -> None:
    found = await channel.declare_queue(name, passive=True)
    if (found.declaration_result.message_count or 0) < confirmed:
        raise AssertionError(f"{confirmed} were confirmed, the queue has {found.declaration_result.message_count}")
