"""The event bus: one protocol, two sizes (RabbitMQ, and one SQLite file), chosen by URL."""

from pathlib import Path

from shared.bus.protocol import (
    BusUnavailable,
    DeadLetter,
    Delivery,
    EventBus,
    Message,
    PublishFailed,
    QueueStats,
)
from shared.topology import Topology

__all__ = [
    "BusUnavailable",
    "DeadLetter",
    "Delivery",
    "EventBus",
    "Message",
    "PublishFailed",
    "QueueStats",
    "bus_for",
]


def bus_for(url: str, topology: Topology, *, client_name: str) -> EventBus:
    """The bus that `LEADS_BROKER_URL` names: `amqp(s)://…` (RabbitMQ) or `sqlite:///path` (embedded).

    Raises `ValueError` for any other URL.
    """
    scheme, _, rest = url.partition("://")
    if scheme in {"amqp", "amqps"}:
        from shared.bus.rabbitmq import RabbitBus

        return RabbitBus(url, topology, client_name=client_name)
    if scheme == "sqlite" and rest.startswith("/"):
        from shared.bus.embedded import EmbeddedBus

        return EmbeddedBus(Path(rest[1:]), topology, client_name=client_name)
    raise ValueError("LEADS_BROKER_URL must be amqp://… (RabbitMQ) or sqlite:///path (embedded)")
