"""A message in a consumer's hands, and how it is let go: acknowledged, at once or when a copy is kept elsewhere."""

import asyncio
import random

import structlog
from aio_pika.abc import AbstractIncomingMessage

from shared.bus.protocol import BusUnavailable, Message
from shared.bus.rabbitmq.connection import clear_errors
from shared.bus.rabbitmq.messages import attempt, buried, decode, redeliveries, waiting
from shared.bus.rabbitmq.publisher import Letter, Publisher
from shared.repeats import Repeats
from shared.topology import Queue

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 1.0
"""So a broker that is back is found within a second."""


class Pause:
    """How long to wait for a broker that is away: doubles up to the longest, and differs between those who wait."""

    def __init__(self) -> None:
        self._longest_seconds = _FIRST_PAUSE_SECONDS

    def next_seconds(self) -> float:
        longest_seconds = self._longest_seconds
        self._longest_seconds = min(2 * longest_seconds, _LONGEST_PAUSE_SECONDS)
        return longest_seconds * random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret

    def reset(self) -> None:
        """What was waited for is there."""
        self._longest_seconds = _FIRST_PAUSE_SECONDS


class RabbitDelivery:
    """A message in hand. Its channel is the only one that can settle it: once that is gone, settling does nothing.

    The broker hands such a message out again, and consumers know an event that they have seen.
    """

    def __init__(self, incoming: AbstractIncomingMessage, queue: Queue, copies: Publisher) -> None:
        self._incoming = incoming
        self._queue = queue
        self._copies = copies
        self._settled = False
        self._log = structlog.get_logger(__name__).bind(queue=queue.name, message_id=incoming.message_id)
        self.message: Message = decode(incoming)
        self.attempt: int = attempt(incoming)
        self.redeliveries: int = redeliveries(incoming)
        self.redelivered: bool = bool(incoming.redelivered) or self.redeliveries > 0

    async def ack(self) -> None:
        """Never raises for a lost broker: it delivers again."""
        if self._claim():
            await self._let_go()

    async def retry(self, delay_seconds: float, reason: str, *, count_attempt: bool = True) -> None:
        """Returns once the message waits in its level. Raises `ValueError` for a delay that is none of the queue's."""
        names = {level.delay_seconds: level.name for level in self._queue.retry_levels}
        if delay_seconds not in names:
            raise ValueError(f"queue {self._queue.name} has no retry level of {delay_seconds} s, only {sorted(names)}")
        copy = waiting(self.message, attempt=self.attempt + int(count_attempt), reason=reason)
        await self._move(Letter("", names[delay_seconds], copy))

    async def dead_letter(self, reason: str) -> None:
        """Returns once the message is set aside."""
        copy = buried(self.message, attempts=self.attempt, reason=reason)
        await self._move(Letter("", self._queue.dead_letters, copy))

    async def _move(self, copy: Letter) -> None:
        if not self._claim():
            return
        try:
            await self._keep(copy)
        except BaseException:
            self._settled = False
            raise
        await self._let_go()

    async def _keep(self, copy: Letter) -> None:
        """Tries as long as the message is in hand. It is no longer when the broker went away: then there is no need.

        Giving it back instead would bring it again at once, and soon to its delivery limit.
        """
        pause, repeats = Pause(), Repeats()
        while not self._is_stale():
            try:
                return await self._copies.publish([copy])
            except BusUnavailable as error:
                if repeats.is_news(str(error)):
                    self._log.warning("bus unavailable", reason=str(error))
                await asyncio.sleep(pause.next_seconds())
        return None

    def _claim(self) -> bool:
        """Whether it is ours to settle now. A second ack of one tag would make the broker close the channel (406)."""
        if self._settled or self._is_stale():
            self._log.debug("bus claim lost")
            return False
        self._settled = True
        return True

    def _is_stale(self) -> bool:
        try:
            return self._incoming.channel.is_closed
        except RuntimeError:  # aiormq's ChannelInvalidStateError
            return True

    async def _let_go(self) -> None:
        try:
            with clear_errors(""):
                await self._incoming.ack()
        except BusUnavailable as error:
            self._log.debug("bus claim lost", reason=str(error))
