"""What the notifier consumes. The tables at the foot are the whole of it."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from services.notifier.delivery import Delivery
from shared.events import Event, EventData, LeadCreated
from shared.worker import GivenUp, Subscriptions


async def on_lead_created(delivery: Delivery, event: Event, lead: LeadCreated) -> None:
    """E-mail the person and the staff."""
    await delivery.deliver(event, lead)


async def on_lead_given_up(delivery: Delivery, event: Event, lead: LeadCreated, reason: str) -> None:
    """Say of each e-mail what its event's becoming a dead letter means."""
    await delivery.give_up(event, lead, reason)


SUBSCRIPTIONS: Mapping[type[EventData], Callable[[Delivery, Event, Any], Awaitable[None]]] = {
    LeadCreated: on_lead_created,
}
GIVEN_UP: Mapping[type[EventData], Callable[[Delivery, Event, Any, str], Awaitable[None]]] = {
    LeadCreated: on_lead_given_up,
}


def subscriptions(delivery: Delivery) -> Subscriptions:
    """The table with its delivery at hand."""
    return {data: partial(handler, delivery) for data, handler in SUBSCRIPTIONS.items()}


def given_up(delivery: Delivery) -> Mapping[type[EventData], GivenUp]:
    """Likewise."""
    return {data: partial(told, delivery) for data, told in GIVEN_UP.items()}
