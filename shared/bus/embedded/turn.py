"""A consumer's turn at the embedded bus's file: what one transaction does for it, and when it may trust the clock.

The loop that takes turns lives in `consumer`, the statements in `rows`.
"""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass

from shared.bus.embedded import rows
from shared.bus.embedded.rows import Claim, Settlement
from shared.topology import Queue


class Clock:
    """The wall clock, and whether it ran evenly since the last lease began.

    It is the only clock that all processes share and that goes on through sleep and restart, but it jumps. Who sees it
    jump, or overslept (a laptop woke up), lets a whole lease go by before it calls others silent: they overslept too.
    """

    def __init__(self, lease_seconds: float) -> None:
        self.lease_seconds = lease_seconds
        self._read_at = time.time()
        self._steady_from = 0.0

    def read(self) -> float:
        """Seconds since the epoch."""
        now = time.time()
        if not 0 <= now - self._read_at <= self.lease_seconds:
            self._steady_from = now + self.lease_seconds
        self._read_at = now
        return now

    @property
    def is_steady(self) -> bool:
        return self._read_at >= self._steady_from


@dataclass(frozen=True)
class Member:
    """Who takes the turn. `number` is None before the first one."""

    queue: Queue
    client_name: str
    clock: Clock
    number: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What a turn came to. Another `number` than before: the lease had run out, and what was in hand is others' now."""

    number: int
    settled: Sequence[bool]
    claims: Sequence[Claim]
    due_in_seconds: float | None
    version: int


def take(connection: sqlite3.Connection, member: Member, *, settlements: Sequence[Settlement], room: int) -> Outcome:
    """Renew the lease, settle, take back what silent consumers had, claim up to `room`."""
    now = member.clock.read()
    number = _number(connection, member, now)
    settled = [settlement.apply(connection, now) for settlement in settlements]
    if member.clock.is_steady:
        rows.dismiss_stale(connection, now)
    else:
        rows.shorten(connection, member.queue, now)
    due_at = rows.promote(connection, member.queue, limit=room, now=now)
    claims = rows.claim(connection, member.queue, number, room)
    due_in_seconds = None if due_at is None else max(due_at - now, 0.0)
    return Outcome(number, settled, claims, due_in_seconds, rows.data_version(connection))


def part(connection: sqlite3.Connection, number: int | None, *, settlements: Sequence[Settlement]) -> list[bool]:
    """The last turn: settle, and put everything else back at once."""
    now = time.time()
    settled = [settlement.apply(connection, now) for settlement in settlements]
    if number is not None:
        rows.dismiss(connection, number, now)
    return settled


def _number(connection: sqlite3.Connection, member: Member, now: float) -> int:
    if member.number is not None and rows.beat(connection, member.number, now):
        return member.number
    rows.shorten(connection, member.queue, now)
    lease_seconds = member.clock.lease_seconds
    return rows.enlist(connection, member.queue, member.client_name, lease_seconds=lease_seconds, now=now)
