"""The leads that are put straight into each peer's database, alike for all: a year's worth, one each second."""

import secrets
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple


class Row(NamedTuple):
    """One lead. `created_at` is as SQLAlchemy writes an instant into SQLite."""

    id: str
    last_name: str
    email: str
    state: str
    created_at: str


def rows(begin: int, end: int) -> Iterator[Row]:
    """The leads from number `begin` up to `end`; one in five was reached out to."""
    first = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=365)
    for number in range(begin, end):
        yield Row(
            id=str(uuid.uuid4()),
            last_name=secrets.token_hex(4),
            email=f"list-{secrets.token_hex(16)}@bench.example",
            state="REACHED_OUT" if number % 5 == 0 else "PENDING",
            created_at=(first + timedelta(seconds=number)).isoformat(" ", timespec="microseconds"),
        )
