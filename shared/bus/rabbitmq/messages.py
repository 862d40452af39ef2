"""How an event travels as an AMQP 0-9-1 message and what is read back from one: properties, headers, deaths."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import aio_pika
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractIncomingMessage

from shared.bus.protocol import DeadLetter, Message
from shared.ids import new_id
from shared.topology import Queue

ATTEMPT_HEADER = "x-leads-attempt"
REASON_HEADER = "x-leads-reason"
DIED_AT_HEADER = "x-leads-died-at"

_REASON_CHARACTERS = 2_000
"""All headers must fit into one frame of 128 KiB (AMQP 0-9-1, section 2.3.5.2), or no copy could ever be kept."""

_RESERVED = ("x-leads-", "x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")
"""Ours, and those in which the broker keeps its own books. A copy is a new message: RabbitMQ below 4.0 would read an
old `x-death` as its own (https://www.rabbitmq.com/docs/dlx), so none travels on."""

_COUNTERS = ("x-delivery-count", "x-acquired-count")
"""How often a message was handed out before: the second exists since RabbitMQ 4.3, which counts fewer in the first."""


def encode(message: Message, own_headers: Mapping[str, str | int] = MappingProxyType({})) -> aio_pika.Message:
    """The message as it is published: persistent, with `message_id` = event id and `type` = routing key.

    The type is what survives dead-lettering, where the routing key becomes a queue's name. A message that somebody
    put into a queue by hand may have no id: it gets one with its first copy.
    """
    return aio_pika.Message(
        message.body,
        headers={**_without_reserved(message.headers), **own_headers},
        content_type=message.content_type,
        correlation_id=message.correlation_id,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=message.id or new_id(),
        timestamp=datetime.now(UTC),
        type=message.routing_key,
    )


def decode(incoming: AbstractIncomingMessage) -> Message:
    """What the publisher gave, without what the broker and we wrote on it."""
    return Message(
        id=incoming.message_id or "",
        routing_key=incoming.type or incoming.routing_key or "",
        body=incoming.body,
        content_type=incoming.content_type or "application/octet-stream",
        correlation_id=incoming.correlation_id,
        headers=_without_reserved(incoming.headers),
    )


def attempt(incoming: AbstractIncomingMessage) -> int:
    """1 unless one of our copies says more."""
    value = incoming.headers.get(ATTEMPT_HEADER)
    return value if isinstance(value, int) and value > 0 else 1


def redeliveries(incoming: AbstractIncomingMessage) -> int:
    """How often a consumer had it and gave no answer."""
    counted = [incoming.headers.get(counter) for counter in _COUNTERS]
    return max((count for count in counted if isinstance(count, int)), default=0)


def waiting(message: Message, *, attempt: int, reason: str) -> aio_pika.Message:
    """The copy that goes to a retry level; `attempt` is the one that it comes back for."""
    return encode(message, {ATTEMPT_HEADER: attempt, REASON_HEADER: reason[:_REASON_CHARACTERS]})


def buried(message: Message, *, attempts: int, reason: str) -> aio_pika.Message:
    """The copy that goes to the dead letters."""
    headers = {REASON_HEADER: reason[:_REASON_CHARACTERS], DIED_AT_HEADER: datetime.now(UTC).isoformat()}
    return encode(message, {ATTEMPT_HEADER: attempts, **headers})


def dead_letter(incoming: AbstractIncomingMessage, queue: Queue) -> DeadLetter:
    """Reads one of our own dead letters, or one that the broker made when the delivery limit was reached."""
    reason, died_at = _broker_death(incoming, queue) or _own_death(incoming)
    return DeadLetter(decode(incoming), reason, attempt(incoming), died_at)


def _own_death(incoming: AbstractIncomingMessage) -> tuple[str, datetime | None]:
    reason = incoming.headers.get(REASON_HEADER)
    try:
        died_at = datetime.fromisoformat(str(incoming.headers.get(DIED_AT_HEADER)))
    except ValueError:  # put there by hand
        died_at = None
    return reason if isinstance(reason, str) else "no reason was kept with it", died_at


def _broker_death(incoming: AbstractIncomingMessage, queue: Queue) -> tuple[str, datetime | None] | None:
    """None unless the message died in `queue` itself: an expiry in a retry level is a way station, not a death."""
    for death in _deaths(incoming):
        if death.get("queue") == queue.name:
            died_at = death.get("time")
            reason = _BROKER_REASONS.get(str(death.get("reason")), f"set aside by the broker: {death.get('reason')}")
            return reason, died_at if isinstance(died_at, datetime) else None
    return None


def _deaths(incoming: AbstractIncomingMessage) -> Iterator[Mapping[str, Any]]:
    deaths = incoming.headers.get("x-death")
    for death in deaths if isinstance(deaths, list) else ():
        if isinstance(death, dict):
            yield death


_BROKER_REASONS = {
    "delivery_limit": "delivered too often without an answer: its consumer went away each time (delivery_limit)",
}


def _without_reserved(headers: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if isinstance(value, str) and not name.startswith(_RESERVED)}
