"""What the notifier measures for the gauges beside its own work: the queues on the bus, and its rows of e-mails."""

from services.notifier import store
from shared.bus import BusUnavailable, EventBus, QueueStats
from shared.database import Database
from shared.metrics import EMAILS_ROWS, QUEUE_CONSUMERS, QUEUE_MESSAGES, QUEUE_RETRYING, QUEUE_SEEN
from shared.topology import Topology


async def measure_queues(bus: EventBus, topology: Topology) -> None:
    """Set the gauges of every queue, as the bus tells them on both its sizes.

    What somebody deleted is declared again first: the api may not be allowed to, and waits for it.

    Raises `BusUnavailable`, and withdraws what was told before: among several notifiers, whoever still hears from the
    broker must not be outvoted by an old number.
    """
    try:
        await bus.open()
        for queue in topology.queues:
            _show(await bus.stats(queue))
    except BusUnavailable:
        for gauge in (QUEUE_MESSAGES, QUEUE_RETRYING, QUEUE_CONSUMERS):
            gauge.clear()
        raise


def begin_queues(topology: Topology) -> None:
    """Count from now how long the bus has told nothing, so that one that never does is seen too."""
    for queue in topology.queues:
        QUEUE_SEEN.labels(queue.name).set_to_current_time()


async def measure_emails(database: Database) -> None:
    """Set the gauges of e-mails by state. Raises `Problem` when the database is away."""
    for state, rows in (await database.read(store.count_by_state)).items():
        EMAILS_ROWS.labels(state).set(rows)


def _show(stats: QueueStats) -> None:
    counts = {"ready": stats.ready, "unacked": stats.unacked, "dead": stats.dead}
    for state, count in counts.items():
        if count is not None:
            QUEUE_MESSAGES.labels(stats.queue, state).set(count)
    for level, count in stats.retrying.items():
        QUEUE_RETRYING.labels(stats.queue, level.removeprefix(f"{stats.queue}.retry.")).set(count)
    QUEUE_CONSUMERS.labels(stats.queue).set(stats.consumers)
    QUEUE_SEEN.labels(stats.queue).set_to_current_time()
