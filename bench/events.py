"""Events of made-up leads, as the api would have written them."""

from shared.bus import Message
from shared.events import MEDIA_TYPE, Event
from tests.harness.events import event, lead_created


def events(count: int) -> list[Event]:
    """Events of so many leads, each with an address of its own."""
    return [event(lead_created(f"event-{number}@bench.example")) for number in range(count)]


def messages(of: list[Event]) -> list[Message]:
    """The same, as the relay hands them to the bus."""
    return [Message(one.id, one.type, one.encode(), MEDIA_TYPE, one.correlationid) for one in of]


def body() -> bytes:
    """One event as it travels."""
    return event().encode()
