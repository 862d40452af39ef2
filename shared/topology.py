"""The only place that names the exchange, the queues, their retry levels and their dead letters.

Both sizes of the bus read it: RabbitMQ turns it into declarations, the embedded bus into rows. The arguments mean the
same on RabbitMQ 3.10 and 4.x (https://www.rabbitmq.com/docs/quorum-queues): everything whose default changed between
them is said explicitly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.events import LeadCreated

EXCHANGE = "leads"
"""Topic exchange that every event is published to, with its type as routing key."""

DEFAULT_RETRY_DELAYS_SECONDS = (10.0, 60.0, 600.0, 3_600.0, 21_600.0)
"""10 s, 1 min, 10 min, 1 h, 6 h: a hiccup is over within the first two, an outage within the last two."""

DELIVERY_LIMIT = 50
"""Deliveries of one message before the broker itself dead-letters it: far above the crashes and deploys that one
message may live through, low enough that a message which kills its consumer each time ends as a dead letter."""

REDELIVERY_LIMIT = 40
"""How often a message may lose its consumer before the worker itself sets it aside, by the way on which the e-mails of
it are marked too. Below `DELIVERY_LIMIT`, which is for a worker that dies before it can look."""

DEAD_LETTER_DELIVERY_LIMIT = 1_000_000_000
"""Looking at a dead letter returns it to its queue, which counts as a delivery: it must never run out."""


@dataclass(frozen=True)
class RetryLevel:
    """A queue in which a failed message waits for `delay_seconds` before it goes back to `queue`."""

    name: str
    delay_seconds: float


@dataclass(frozen=True)
class Queue:
    """A consumer's queue with all that belongs to it."""

    name: str
    routing_keys: tuple[str, ...]
    retry_delays_seconds: tuple[float, ...] = DEFAULT_RETRY_DELAYS_SECONDS

    @property
    def retry_levels(self) -> tuple[RetryLevel, ...]:
        """The waiting queues, shortest first. The delay is part of the name: another delay is another queue."""
        return tuple(
            RetryLevel(f"{self.name}.retry.{_label(seconds)}", seconds) for seconds in self.retry_delays_seconds
        )

    @property
    def dead_letters(self) -> str:
        """The queue that keeps what could not be handled, with the reason, until somebody replays or purges it."""
        return f"{self.name}.dead"

    @property
    def renewals(self) -> str:
        """The queue of notes to who publishes: each says that one of the others was missing and was made anew."""
        return f"{self.name}.renewals"


@dataclass(frozen=True)
class Topology:
    """All that a bus declares before it is used."""

    exchange: str = EXCHANGE
    queues: tuple[Queue, ...] = field(default_factory=tuple)

    def queue(self, name: str) -> Queue:
        """The queue of that name. Raises `KeyError`."""
        for queue in self.queues:
            if queue.name == name:
                return queue
        raise KeyError(name)

    def routes(self, routing_key: str) -> tuple[Queue, ...]:
        """The queues that an event of this type reaches."""
        return tuple(queue for queue in self.queues if routing_key in queue.routing_keys)


NOTIFIER_QUEUE = "notifier"


def leads_topology(retry_delays_seconds: Sequence[float] = DEFAULT_RETRY_DELAYS_SECONDS) -> Topology:
    """The topology of Leads. The delays are a setting; the names follow from them."""
    delays = tuple(retry_delays_seconds)
    return Topology(queues=(Queue(NOTIFIER_QUEUE, (LeadCreated.TYPE,), delays),))


def _label(seconds: float) -> str:
    """`10s`, `1m`, `6h`, `250ms`: the delay as it stands in a queue's name."""
    milliseconds = round(seconds * 1000)
    for size, unit in ((3_600_000, "h"), (60_000, "m"), (1000, "s")):
        if milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms"
