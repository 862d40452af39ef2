"""What the notifier consumes. The table at the foot is the whole of it."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from services.notifier.delivery import Delivery
from shared.events import Event, EventData, LeadCreated
from shared.worker import Subscriptions


async def on_lead_created(delivery: Delivery, event: Event, lead: LeadCreated) -> None:
    """E-mail the person and the staff."""
    await delivery.deliver(event, lead)


SUBSCRIPTIONS: Mapping[type[EventData], Callable[[Delivery, Event, Any], Awaitable[None]]] = {
    LeadCreated: on_lead_created,
}


def subscriptions(delivery: Delivery) -> Subscriptions:
    """The table with its delivery at hand."""
    return {data: partial(handler, delivery) for data, handler in SUBSCRIPTIONS.items()}
