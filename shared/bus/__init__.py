"""The event bus: one protocol, two sizes (RabbitMQ, and one SQLite file), chosen by URL."""

from shared.bus.protocol import (
    BusUnavailable,
    DeadLetter,
    Delivery,
    EventBus,
    Message,
    PublishFailed,
    QueueStats,
)

__all__ = [
    "BusUnavailable",
    "DeadLetter",
    "Delivery",
    "EventBus",
    "Message",
    "PublishFailed",
    "QueueStats",
]
