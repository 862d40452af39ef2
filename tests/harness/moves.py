"""A deployment's rows on their way from SQLite to PostgreSQL, as somebody else sees them on either side."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.cli.migrate import command
from services.cli.migrate.rooms import API_TABLES, NOTIFIER_TABLES
from shared.postgresql import SCHEMAS
from tests.harness.backups import dump
from tests.harness.deployment import ROOT
from tests.harness.postgresql import query

LEADS = 30
CHILD_SECONDS = 100.0

TABLES = {
    "leads.db": tuple(str(one.__tablename__) for one in API_TABLES),
    "notifier.db": tuple(str(one.__tablename__) for one in NOTIFIER_TABLES),
}
"""By the file they are in."""

ENRICHED = {
    "leads.db": (
        "INSERT INTO users VALUES ('bo@example.com', 'hash', 'staff', 3, '2026-01-02 03:04:05.000006', NULL)",
        "INSERT INTO users VALUES ('cy@example.com', 'hash', 'admin', 1, '2026-01-02 03:04:05.000000', '2026-02-01')",
        "INSERT INTO idempotency_keys VALUES ('k-1', 'print', 'lead', '{\"a\": \"ü\"}', '2026-01-02 03:04:05.123456')",
        "INSERT INTO audit_runs VALUES ('r-1', '2026-01-02 03:04:05.1', '2026-01-02 03:04:06.1', 7, 0)",
        "INSERT INTO rate_counts VALUES ('c-1', 5, 1790000000.1234567)",
        "UPDATE leads SET last_name = 'Zoë ''O\"Brien'' 😀', version = 2 WHERE id = (SELECT min(id) FROM leads)",
        "UPDATE outbox SET published_at = NULL, body = x'00ff10' WHERE id = (SELECT max(id) FROM outbox)",
    ),
    "notifier.db": tuple(
        f"UPDATE emails SET state = '{state}', reason = 'so', attempts = {number}"
        f" WHERE id = (SELECT id FROM emails ORDER BY id LIMIT 1 OFFSET {number})"
        for number, state in enumerate(("pending", "sending", "uncertain", "failed", "dropped"))
    ),
}
"""Statements that give a data folder a row of every kind, and values that are easily spoilt."""


@dataclass(frozen=True)
class Site:
    """A data folder on SQLite, and the URL to move to."""

    data: Path
    url: str

    def migrate(self, *, finish: bool = False) -> int:
        return command.run(source="sqlite", target="postgresql", is_last=finish)

    def change(self, file: str, statement: str) -> None:
        run(self.data / file, statement)

    def dumps(self) -> list[list[str]]:
        return [dump(self.data / file) for file in TABLES]


def leads(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command, with the settings of this process and these."""
    child = subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300", **settings},
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS,
        check=False,
    )
    assert "Traceback" not in child.stderr
    return child


def on_postgresql(url: str) -> dict[str, str]:
    """The settings of rooms that keep their rows there."""
    return dict.fromkeys(SCHEMAS, url)


def enrich(data: Path) -> None:
    """Make the rows various."""
    for file, statements in ENRICHED.items():
        for statement in statements:
            run(data / file, statement)


def run(file: Path, statement: str) -> None:
    """One statement, committed, as somebody with a shell might."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)


def in_sqlite(data: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows, by table."""
    found = {}
    for file, tables in TABLES.items():
        with closing(sqlite3.connect(data / file)) as connection:
            for table in tables:
                rows = connection.execute(f"SELECT * FROM {table} ORDER BY 1")
                moments = [name[0].endswith(("_at", "_since")) for name in rows.description]
                found[table] = [tuple(map(_value, row, moments)) for row in rows]
    return found


def in_postgresql(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Likewise."""
    return {table: query(url, f"SELECT * FROM {table} ORDER BY 1") for tables in TABLES.values() for table in tables}


def _value(value: Any, is_moment: bool) -> Any:  # noqa: FBT001
    """`ends_at` of a rate count is a number."""
    return datetime.fromisoformat(value).replace(tzinfo=UTC) if is_moment and isinstance(value, str) else value
