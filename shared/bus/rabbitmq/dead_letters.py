"""The dead letters of a queue at RabbitMQ: look at them, replay them, purge them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from shared.bus.protocol import DeadLetter
from shared.bus.rabbitmq.connection import Link
from shared.bus.rabbitmq.messages import dead_letter, decode, encode
from shared.bus.rabbitmq.publisher import Letter, Publisher
from shared.topology import Queue

_ANSWER_SECONDS = 10.0
_BATCH = 200


class DeadLetters:
    """One errand at a time: what one has taken out to look at, another would not see."""

    def __init__(self, link: Link, copies: Publisher) -> None:
        self._link = link
        self._copies = copies
        self._turn = asyncio.Lock()

    async def peek(self, queue: Queue, limit: int) -> list[DeadLetter]:
        """The oldest first."""
        async with self._pile(queue) as pile:
            taken = await pile.take(limit)
            letters = [dead_letter(incoming, queue) for incoming in taken]
            await pile.put_back(taken)
            return letters

    async def replay(self, queue: Queue, ids: Sequence[str] | None) -> int:
        """A letter goes only when its copy is confirmed. One that dies anew meanwhile stays, or it would never end."""
        replayed: set[str] = set()
        count = 0
        async with self._pile(queue) as pile:
            async for chosen in pile.sift(ids, unless=replayed):
                messages = [decode(incoming) for incoming in chosen]
                await self._copies.publish([Letter("", queue.name, encode(message)) for message in messages])
                await pile.drop(chosen)
                replayed.update(message.id for message in messages)
                count += len(chosen)
        return count

    async def purge(self, queue: Queue, ids: Sequence[str] | None) -> int:
        """All at once, or one by one those of `ids`."""
        async with self._pile(queue) as pile:
            if ids is None:
                return await pile.empty()
            count = 0
            async for chosen in pile.sift(ids, unless=frozenset()):
                await pile.drop(chosen)
                count += len(chosen)
            return count

    @asynccontextmanager
    async def _pile(self, queue: Queue) -> AsyncIterator["_Pile"]:
        async with self._turn, self._link.visit() as channel:
            yield _Pile(channel, await channel.get_queue(queue.dead_letters, ensure=False))


class _Pile:
    """What one channel takes out of a dead-letter queue. What it neither drops nor puts back returns when it closes."""

    def __init__(self, channel: AbstractChannel, queue: AbstractQueue) -> None:
        self._channel = channel
        self._queue = queue

    async def take(self, limit: int) -> list[AbstractIncomingMessage]:
        """Up to `limit` letters; fewer when there are no more."""
        taken: list[AbstractIncomingMessage] = []
        while len(taken) < limit:
            incoming = await self._queue.get(fail=False, timeout=_ANSWER_SECONDS)
            if incoming is None:
                break
            taken.append(incoming)
        return taken

    async def sift(
        self, ids: Sequence[str] | None, *, unless: AbstractSet[str]
    ) -> AsyncIterator[Sequence[AbstractIncomingMessage]]:
        """Goes through the whole pile and gives out, in batches, the letters of `ids` (or all), without `unless`."""
        wanted = None if ids is None else frozenset(ids)
        others: list[int] = []
        while batch := await self.take(_BATCH):
            chosen = [letter for letter in batch if _is_chosen(letter, wanted, unless)]
            others += [letter.delivery_tag or 0 for letter in batch if not _is_chosen(letter, wanted, unless)]
            if chosen:
                yield chosen
        await self._put_back(others)

    async def put_back(self, letters: Sequence[AbstractIncomingMessage]) -> None:
        """As they were, in their order."""
        await self._put_back([letter.delivery_tag or 0 for letter in letters])

    async def drop(self, letters: Sequence[AbstractIncomingMessage]) -> None:
        """For good."""
        for letter in letters:
            await letter.ack()

    async def empty(self) -> int:
        """Drops all; returns how many there were."""
        purged = await self._queue.purge(timeout=_ANSWER_SECONDS)
        return purged.message_count or 0

    async def _put_back(self, delivery_tags: Sequence[int]) -> None:
        """One by one, because closing the channel would return them in no certain order.

        A nack and not a reject: since RabbitMQ 4.3 only the latter counts as a failed delivery
        (https://www.rabbitmq.com/docs/nack).
        """
        underlay = await self._channel.get_underlay_channel()
        for delivery_tag in delivery_tags:
            await underlay.basic_nack(delivery_tag, requeue=True)


def _is_chosen(letter: AbstractIncomingMessage, wanted: AbstractSet[str] | None, unless: AbstractSet[str]) -> bool:
    return (wanted is None or letter.message_id in wanted) and letter.message_id not in unless
