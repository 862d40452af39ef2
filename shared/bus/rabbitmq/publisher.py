"""Confirmed publishing: a message counts as kept when RabbitMQ acknowledged it, and never otherwise."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import aio_pika
import aiormq
from aio_pika.abc import AbstractChannel
from pamqp.commands import Basic

from shared.bus.protocol import BusUnavailable, PublishFailed
from shared.bus.rabbitmq.connection import Link, clear_errors, explain

PUBLISH_SECONDS = 10.0
"""For a whole batch, connecting included. What is not confirmed by then is unknown and is sent again."""


@dataclass(frozen=True)
class Letter:
    """A message with its address. The exchange "" is the default one, whose routing keys are the queues' names."""

    exchange: str
    routing_key: str
    message: aio_pika.Message

    @property
    def id(self) -> str:
        return self.message.message_id or ""


class Publisher:
    """Publishes batches over one channel with confirms (https://www.rabbitmq.com/docs/confirms), one at a time."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel: AbstractChannel | None = None
        self._turn = asyncio.Lock()

    async def publish(self, letters: Iterable[Letter]) -> None:
        """Returns when all are confirmed by every queue they route to.

        Raises `PublishFailed` with the ids that are. Whatever went wrong, the connection is dropped: what it may still
        have in flight must not be taken for the next batch's.
        """
        # RabbitMQ names a returned message by its id alone, so one id must not be under way twice. Two messages with
        # one id are one message.
        batch = list({letter.id: letter for letter in letters}.values())
        confirmed: set[str] = set()
        async with self._turn:
            try:
                await self._publish(batch, confirmed)
            except BusUnavailable as error:
                await self._forget()
                raise PublishFailed(str(error), frozenset(confirmed)) from error
            except BaseException:
                await self._forget()
                raise

    async def close(self) -> None:
        """Waits for the batch under way and closes the connection."""
        async with self._turn:
            await self._forget()

    async def _publish(self, batch: Sequence[Letter], confirmed: set[str]) -> None:
        if not batch:
            return
        with clear_errors(self._link.url):
            async with asyncio.timeout(PUBLISH_SECONDS):
                channel = await self._open_channel()
                sending = (_send(channel, letter, confirmed) for letter in batch)
                outcomes = await asyncio.gather(*sending, return_exceptions=True)
        failures = [outcome for outcome in outcomes if outcome is not None]
        if failures:
            reason = explain(failures[0], self._link.url)
            raise BusUnavailable(f"{len(failures)} of {len(batch)} messages are not confirmed. {reason}")

    async def _open_channel(self) -> AbstractChannel:
        if self._channel is None or self._channel.is_closed:
            self._channel = await self._link.channel(confirms=True)
        return self._channel

    async def _forget(self) -> None:
        self._channel = None
        await self._link.forget()


async def _send(channel: AbstractChannel, letter: Letter, confirmed: set[str]) -> None:
    underlay = await channel.get_underlay_channel()
    assert isinstance(underlay, aiormq.Channel)
    # Not `Exchange.publish`, which lets the socket drain after each message before the next may go: half as fast.
    outcome = await underlay.basic_publish(
        letter.message.body,
        exchange=letter.exchange,
        routing_key=letter.routing_key,
        properties=letter.message.properties,
        mandatory=True,
        wait=False,
    )
    if not isinstance(outcome, Basic.Ack):
        raise BusUnavailable(f"RabbitMQ answered {type(outcome).__name__} instead of an acknowledgement.")
    confirmed.add(letter.id)
