"""What an audit must look at again, kept on disk: memory stays bounded however much is wrong or waits.

A private SQLite file without a name (https://www.sqlite.org/inmemorydb.html, "Temporary Databases"): it spills into the
folder for temporary files and is gone with the process.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Self

from services.cli.audit.judge import Owed

AT_ONCE = 500

_SCHEMA = """
    CREATE TABLE suspect (lead_id TEXT PRIMARY KEY, event_id TEXT, is_owed INTEGER NOT NULL);
    CREATE INDEX suspect_event ON suspect (event_id) WHERE event_id IS NOT NULL;
    CREATE TABLE on_bus (event_id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE owed (lead_id TEXT PRIMARY KEY, detail TEXT NOT NULL, traced_at REAL);
    CREATE TABLE orphan (blob_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class Ledger:
    """Suspects of the first look, what the bus has of them, and what is still owed at the second look."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._connection.close()

    def suspect(self, found: Iterable[tuple[str, Owed | None]]) -> None:
        """Remember leads to look at again, and which event of theirs must be on the bus."""
        rows = ((lead_id, owed and owed.event_id, owed is not None) for lead_id, owed in found)
        self._many("INSERT OR REPLACE INTO suspect VALUES (?, ?, ?)", rows)

    def seen_on_bus(self, event_ids: Iterable[str]) -> None:
        """Remember those of these events that a suspect waits for."""
        statement = "INSERT OR IGNORE INTO on_bus SELECT event_id FROM suspect WHERE event_id = ?"
        self._many(statement, ((event_id,) for event_id in event_ids))

    def owe(self, owed: Iterable[tuple[str, Owed]]) -> None:
        """Remember leads whose e-mails were owed at both looks, and whose event was not seen on the bus."""
        rows = ((lead_id, one.detail, one.traced_at and one.traced_at.timestamp()) for lead_id, one in owed)
        self._many("INSERT OR REPLACE INTO owed VALUES (?, ?, ?)", rows)

    def orphan(self, blob_ids: Iterable[str]) -> None:
        """Remember blobs without a lead."""
        self._many("INSERT OR IGNORE INTO orphan VALUES (?)", ((blob_id,) for blob_id in blob_ids))

    def suspects(self) -> Iterator[dict[str, tuple[bool, bool]]]:
        """In pages: each suspect, whether e-mails of it were owed, and whether its event was seen on the bus."""
        query = "SELECT lead_id, is_owed, event_id IN (SELECT event_id FROM on_bus) FROM suspect ORDER BY lead_id"
        for page in self._pages(query):
            yield {lead_id: (bool(is_owed), bool(is_seen)) for lead_id, is_owed, is_seen in page}

    def owed(self) -> Iterator[list[tuple[str, Owed]]]:
        """In pages: what `owe` was told."""
        for page in self._pages("SELECT lead_id, detail, traced_at FROM owed ORDER BY lead_id"):
            yield [(lead_id, Owed(None, detail, _instant(traced_at))) for lead_id, detail, traced_at in page]

    def count_owed(self) -> tuple[int, datetime | None]:
        """How many leads are owed e-mails, and when something was last heard of any of them."""
        count, traced_at = self._connection.execute("SELECT count(*), max(traced_at) FROM owed").fetchone()
        return count, _instant(traced_at)

    def orphans(self) -> Iterator[list[str]]:
        """In pages: what `orphan` was told."""
        for page in self._pages("SELECT blob_id FROM orphan ORDER BY blob_id"):
            yield [blob_id for (blob_id,) in page]

    def count_orphans(self) -> int:
        """How many `orphan` was told."""
        return int(self._connection.execute("SELECT count(*) FROM orphan").fetchone()[0])

    def _pages(self, query: str) -> Iterator[Sequence[tuple[Any, ...]]]:
        with closing(self._connection.execute(query)) as cursor:
            while page := cursor.fetchmany(AT_ONCE):
                yield page

    def _many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        self._connection.execute("BEGIN")
        self._connection.executemany(statement, rows)
        self._connection.execute("COMMIT")


def _instant(timestamp: float | None) -> datetime | None:
    return None if timestamp is None else datetime.fromtimestamp(timestamp, UTC)
