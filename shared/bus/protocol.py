"""What a bus promises, whatever carries it. `tests/contract/event_bus` holds every implementation to it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, Self

from shared.topology import Queue


class BusUnavailable(Exception):  # noqa: N818
    """The broker cannot be reached, refuses us, or answered with an error. Trying again later may help."""


class PublishFailed(BusUnavailable):
    """Some messages of a batch are not known to be kept. `confirmed` are: only the others need to be sent again."""

    def __init__(self, reason: str, confirmed: frozenset[str] = frozenset()) -> None:
        super().__init__(reason)
        self.confirmed = confirmed


@dataclass(frozen=True)
class Message:
    """One event on its way. `id` is stable over every resend and redelivery: consumers deduplicate by it."""

    id: str
    routing_key: str
    body: bytes
    content_type: str = "application/json"
    correlation_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Extra headers such as `traceparent`."""


class Delivery(Protocol):
    """One message in a consumer's hands, settled by exactly one of `ack`, `retry`, `dead_letter`.

    If none is called before the consumer goes away, the bus delivers it again. `retry` and `dead_letter` first keep a
    durable copy in its new place and only then let go of this one: a crash between leaves a duplicate, never a gap.
    """

    @property
    def message(self) -> Message: ...

    @property
    def attempt(self) -> int:
        """1 for the first try; counts `retry(count_attempt=True)`, not redeliveries after a crash."""
        ...

    @property
    def redelivered(self) -> bool:
        """Whether an earlier consumer had it and went away without settling it."""
        ...

    @property
    def redeliveries(self) -> int:
        """How often that happened since it was published, retried or replayed, as far as the bus counts it."""
        ...

    async def ack(self) -> None:
        """The work is done: the bus may forget the message."""
        ...

    async def retry(self, delay_seconds: float, reason: str, *, count_attempt: bool = True) -> None:
        """Come back after at least `delay_seconds`, which is one of the queue's `retry_delays_seconds`."""
        ...

    async def dead_letter(self, reason: str) -> None:
        """Set aside, with the reason, until somebody replays or purges it."""
        ...


@dataclass(frozen=True)
class DeadLetter:
    """A message that was set aside."""

    message: Message
    reason: str
    attempts: int
    died_at: datetime | None


@dataclass(frozen=True)
class QueueStats:
    """What ops see of one queue."""

    queue: str
    ready: int
    """Messages waiting for a consumer."""
    unacked: int | None
    """Messages in consumers' hands; None where the broker's protocol does not tell."""
    consumers: int
    retrying: Mapping[str, int]
    """Waiting messages by retry level (the level's queue name)."""
    dead: int


class EventBus(Protocol):
    """A durable, at-least-once bus.

    `open` connects and declares the topology (idempotent; raises `BusUnavailable` naming what to mend). Every verb
    raises `BusUnavailable` when the broker is away; a publisher calls again, a consumer reconnects by itself.
    """

    system: str
    """What carries it, as traces name it (`messaging.system`)."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *exc_info: object) -> None: ...

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when every message is kept durably in every queue it routes to (publisher confirms).

        Raises `PublishFailed` naming those that are confirmed; the rest may or may not be kept ("unknown"), so they are
        sent again with the same id. A message that no queue takes is not confirmed.
        """
        ...

    def consume(self, queue: Queue, prefetch: int) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Deliveries of `queue`, at most `prefetch` unsettled at a time. Leaving the context returns unsettled ones.

        The iterator survives a broker restart: it reconnects with back-off and goes on.
        """
        ...

    def renewals(self, queue: Queue) -> AbstractAsyncContextManager[bool]:
        """Whether `queue`, or a level of it, was missing since this was last answered, and was made anew.

        What was in it is gone, so that whoever published it should do so again. Leaving the context without an error is
        the answer that this is seen to; until then it is told again.
        """
        ...

    async def stats(self, queue: Queue) -> QueueStats: ...

    def listing(self, queue: Queue) -> AsyncIterator[Sequence[str]] | None:
        """The ids of all that `queue` has, in batches: ready, in hand, in retry levels, dead letters.

        What is there from beginning to end is certain to be listed. None where the broker cannot list a queue without
        taking its messages out.
        """
        ...

    async def peek(self, queue: Queue, limit: int) -> list[DeadLetter]:
        """The oldest dead letters, left where they are."""
        ...

    async def replay(self, queue: Queue, ids: Sequence[str] | None = None) -> int:
        """Put dead letters (all, or those ids) back into `queue` as new first attempts; returns how many."""
        ...

    async def purge(self, queue: Queue, ids: Sequence[str] | None = None) -> int:
        """Drop dead letters for good (all, or those ids); returns how many."""
        ...
