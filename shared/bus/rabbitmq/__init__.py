"""The bus at scale: RabbitMQ (3.10 and 4.x) by aio-pika."""

from shared.bus.rabbitmq.bus import RabbitBus
from shared.bus.rabbitmq.nodes import password_free

__all__ = ["RabbitBus", "password_free"]
