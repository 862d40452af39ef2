"""What happens to the rows of the embedded bus: kept, claimed, settled, set aside, put back, counted.

Every function is a step of a transaction that its caller holds, and is told the time. Who calls when lives in
`consumer` and `bus`, the tables in `schema`.

A row says where RabbitMQ would have the message: `level` set is a retry queue, `dead_at` set is the dead letters,
`claimed_by` set is a consumer's hands, none of them is ready. `deliveries` counts as a quorum queue's delivery count
does: whoever comes back more than `DELIVERY_LIMIT` times is dead-lettered, and a retry, being a new copy, starts again
at 0 (https://www.rabbitmq.com/docs/quorum-queues#poison-message-handling).
"""
# ruff: noqa: S608 (statements are put together from the constants below and nothing else)

import json
import secrets
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from shared.bus.protocol import DeadLetter, Message, QueueStats
from shared.topology import DELIVERY_LIMIT, Queue

DELIVERY_LIMIT_REASON = "delivery limit reached"

MESSAGE = "id, routing_key, body, content_type, correlation_id, headers"

INSERT = f"INSERT INTO message ({MESSAGE}, queue, available_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

READY = "queue = :queue AND level IS NULL AND claimed_by IS NULL AND dead_at IS NULL"

CLAIM = f"""UPDATE message SET claimed_by = :consumer, deliveries = deliveries + 1
    WHERE position IN (SELECT position FROM message WHERE {READY} ORDER BY available_at, position LIMIT :limit)
    RETURNING available_at, position, attempt, deliveries, {MESSAGE}"""

DUE = "queue = :queue AND level IS NOT NULL AND available_at <= :now"

PROMOTE = f"""UPDATE message SET level = NULL
    WHERE position IN (SELECT position FROM message WHERE {DUE} ORDER BY available_at, position LIMIT :limit)"""

MINE = "position = :position AND claimed_by = :consumer"

ACK = f"DELETE FROM message WHERE {MINE}"

RETRY = f"""UPDATE message SET claimed_by = NULL, deliveries = 0, level = :level, available_at = :now + :delay,
    attempt = attempt + :counted, reason = :reason WHERE {MINE}"""

BURY = f"UPDATE message SET claimed_by = NULL, reason = :reason, dead_at = :now WHERE {MINE}"

RELEASE_ALL = f"""UPDATE message SET claimed_by = NULL,
    dead_at = CASE WHEN deliveries > {DELIVERY_LIMIT} THEN :now END,
    reason = CASE WHEN deliveries > {DELIVERY_LIMIT} THEN '{DELIVERY_LIMIT_REASON}' ELSE reason END
    WHERE claimed_by = :consumer"""

RELEASE = f"{RELEASE_ALL} AND position = :position"

DEAD = "queue = :queue AND dead_at IS NOT NULL AND (:ids IS NULL OR id IN (SELECT value FROM json_each(:ids)))"

REPLAY = f"""UPDATE message SET dead_at = NULL, reason = NULL, attempt = 1, deliveries = 0, available_at = :now
    WHERE {DEAD}"""

PURGE = f"DELETE FROM message WHERE {DEAD}"

STALE = "abs(:now - beat_at) > lease_seconds"
"""A beat from the future is as silent as an old one: the clock was put back after it."""

COUNTS = f"""SELECT
    (SELECT count(*) FROM message WHERE {READY}),
    (SELECT count(*) FROM message WHERE {DUE}),
    (SELECT count(*) FROM message WHERE queue = :queue AND claimed_by IS NOT NULL
        AND claimed_by IN (SELECT id FROM consumer WHERE {STALE})),
    (SELECT count(*) FROM message WHERE queue = :queue AND claimed_by IS NOT NULL),
    (SELECT count(*) FROM consumer WHERE queue = :queue AND NOT {STALE}),
    (SELECT count(*) FROM message WHERE queue = :queue AND dead_at IS NOT NULL),
    (SELECT json_group_object(level, waiting) FROM (SELECT level, count(*) AS waiting FROM message
        WHERE queue = :queue AND level IS NOT NULL AND available_at > :now GROUP BY level))"""


@dataclass(frozen=True)
class Settlement:
    """A statement that does something to one message, provided that consumer still has it."""

    statement: str
    position: int
    consumer: int
    values: Mapping[str, str | float] = field(default_factory=dict)

    def apply(self, connection: sqlite3.Connection, now: float) -> bool:
        """Whether the message was still in that consumer's hands."""
        own = {"position": self.position, "consumer": self.consumer, "now": now}
        return connection.execute(self.statement, {**self.values, **own}).rowcount > 0


@dataclass(frozen=True)
class Claim:
    """A message that is in the hands of `consumer` now."""

    position: int
    consumer: int
    attempt: int
    deliveries: int
    message: Message


def insert(connection: sqlite3.Connection, routed: Iterable[tuple[Queue, Message]], now: float) -> None:
    """Keep each message in its queue, in the order given."""
    connection.executemany(INSERT, [(*_columns(message), queue.name, now) for queue, message in routed])


def enlist(connection: sqlite3.Connection, queue: Queue, client_name: str, *, lease_seconds: float, now: float) -> int:
    """A new consumer's number."""
    # By chance and not by count: a file that replaced a deleted one must not know the numbers given in the old one.
    number = secrets.randbits(63)
    connection.execute(
        "INSERT INTO consumer VALUES (?, ?, ?, ?, ?)", (number, queue.name, client_name, now, lease_seconds)
    )
    return number


def beat(connection: sqlite3.Connection, consumer: int, now: float) -> bool:
    """Whether the consumer is still known; if so, its lease starts anew."""
    return connection.execute("UPDATE consumer SET beat_at = ? WHERE id = ?", (now, consumer)).rowcount > 0


def dismiss(connection: sqlite3.Connection, consumer: int, now: float) -> None:
    """Take everything out of a consumer's hands and forget it."""
    connection.execute(RELEASE_ALL, {"consumer": consumer, "now": now})
    connection.execute("DELETE FROM consumer WHERE id = ?", (consumer,))


def dismiss_stale(connection: sqlite3.Connection, now: float) -> None:
    """Dismiss whoever let the lease run out, on any queue."""
    for (consumer,) in connection.execute(f"SELECT id FROM consumer WHERE {STALE}", {"now": now}).fetchall():
        dismiss(connection, consumer, now)


def promote(connection: sqlite3.Connection, queue: Queue, *, limit: int, now: float) -> float | None:
    """Make up to `limit` ready that have waited long enough; returns when the next one is due."""
    values = {"queue": queue.name, "limit": limit, "now": now}
    connection.execute(PROMOTE, values)
    statement = "SELECT min(available_at) FROM message WHERE queue = :queue AND level IS NOT NULL"
    due_at: float | None = connection.execute(statement, values).fetchone()[0]
    return due_at


def shorten(connection: sqlite3.Connection, queue: Queue, now: float) -> None:
    """After the clock was put back: no message waits longer than its whole delay from now."""
    statement = """UPDATE message SET available_at = :now + :delay
        WHERE queue = :queue AND level = :level AND available_at > :now + :delay"""
    for level in queue.retry_levels:
        values = {"queue": queue.name, "level": level.name, "delay": level.delay_seconds, "now": now}
        connection.execute(statement, values)


def claim(connection: sqlite3.Connection, queue: Queue, consumer: int, limit: int) -> list[Claim]:
    """Take up to `limit` ready messages, those first that have been ready longest."""
    values = {"queue": queue.name, "consumer": consumer, "limit": limit}
    # RETURNING promises no order (https://www.sqlite.org/lang_returning.html), and positions make the order total.
    rows = sorted(connection.execute(CLAIM, values).fetchall(), key=lambda row: row[:2])
    return [Claim(row[1], consumer, row[2], row[3], _message(row[4:])) for row in rows]


def is_renewed(connection: sqlite3.Connection) -> bool:
    """Whether somebody must still be told that this file was made anew."""
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM renewal)").fetchone()[0])


def forget_renewals(connection: sqlite3.Connection) -> None:
    """They were seen to."""
    connection.execute("DELETE FROM renewal")


def has_ready(connection: sqlite3.Connection, queue: Queue) -> bool:
    statement = f"SELECT EXISTS (SELECT 1 FROM message WHERE {READY})"
    return bool(connection.execute(statement, {"queue": queue.name}).fetchone()[0])


def data_version(connection: sqlite3.Connection) -> int:
    """Changes when, and only when, another connection committed something (in microseconds: it reads shared memory)."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def count(connection: sqlite3.Connection, queue: Queue, now: float) -> QueueStats:
    """The queue as it is now: what a consumer that fell silent had in hand counts as ready."""
    values = {"queue": queue.name, "now": now}
    ready, due, orphaned, claimed, consumers, dead, waiting = connection.execute(COUNTS, values).fetchone()
    levels = dict.fromkeys((level.name for level in queue.retry_levels), 0)
    return QueueStats(
        queue=queue.name,
        ready=ready + due + orphaned,
        unacked=claimed - orphaned,
        consumers=consumers,
        retrying=levels | json.loads(waiting),
        dead=dead,
    )


def list_after(connection: sqlite3.Connection, queue: Queue, after: int, limit: int) -> list[tuple[int, str]]:
    """Position and id of the next messages, wherever in the queue they are."""
    statement = "SELECT position, id FROM message WHERE position > ? AND queue = ? ORDER BY position LIMIT ?"
    return connection.execute(statement, (after, queue.name, limit)).fetchall()


def dead_letters(connection: sqlite3.Connection, queue: Queue, limit: int) -> list[DeadLetter]:
    """The oldest first."""
    statement = f"""SELECT reason, attempt, dead_at, {MESSAGE} FROM message
        WHERE queue = ? AND dead_at IS NOT NULL ORDER BY dead_at, position LIMIT ?"""
    return [
        DeadLetter(_message(row[3:]), reason=row[0], attempts=row[1], died_at=datetime.fromtimestamp(row[2], UTC))
        for row in connection.execute(statement, (queue.name, max(limit, 0))).fetchall()
    ]


def change_dead(
    connection: sqlite3.Connection, statement: str, queue: Queue, *, ids: Sequence[str] | None, now: float
) -> int:
    """Run `REPLAY` or `PURGE` over all dead letters, or over those ids; returns how many it met."""
    values = {"queue": queue.name, "ids": None if ids is None else json.dumps(list(ids)), "now": now}
    return connection.execute(statement, values).rowcount


def _columns(message: Message) -> tuple[str | bytes | None, ...]:
    headers = json.dumps(dict(message.headers))
    return message.id, message.routing_key, message.body, message.content_type, message.correlation_id, headers


def _message(row: Sequence[str | bytes | None]) -> Message:
    key, routing_key, body, content_type, correlation_id, headers = row
    return Message(key, routing_key, body, content_type, correlation_id, json.loads(headers))  # type: ignore[arg-type]
