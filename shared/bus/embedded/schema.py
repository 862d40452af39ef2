"""The tables of the embedded bus's file, and whether a file is one of ours. Its rows are moved by `rows`."""

import sqlite3

APPLICATION_ID = 0x4C454144
"""`LEAD`: tells our queue file from any other SQLite file (https://www.sqlite.org/pragma.html#pragma_application_id)."""

SCHEMA_VERSION = 1

# AUTOINCREMENT: no position is ever given twice, so a late settlement hits no stranger.
SCHEMA = (
    """CREATE TABLE message (
        position INTEGER PRIMARY KEY AUTOINCREMENT,
        queue TEXT NOT NULL,
        id TEXT NOT NULL,
        routing_key TEXT NOT NULL,
        content_type TEXT NOT NULL,
        correlation_id TEXT,
        headers TEXT NOT NULL,
        attempt INTEGER NOT NULL DEFAULT 1,
        deliveries INTEGER NOT NULL DEFAULT 0,
        available_at REAL NOT NULL,
        level TEXT,
        claimed_by INTEGER,
        reason TEXT,
        dead_at REAL,
        body BLOB NOT NULL
    )""",
    """CREATE INDEX message_ready ON message (queue, available_at, position)
        WHERE level IS NULL AND claimed_by IS NULL AND dead_at IS NULL""",
    "CREATE INDEX message_delayed ON message (queue, available_at) WHERE level IS NOT NULL",
    "CREATE INDEX message_claimed ON message (claimed_by) WHERE claimed_by IS NOT NULL",
    "CREATE INDEX message_dead ON message (queue, dead_at, position) WHERE dead_at IS NOT NULL",
    """CREATE TABLE consumer (
        id INTEGER PRIMARY KEY,
        queue TEXT NOT NULL,
        client_name TEXT NOT NULL,
        beat_at REAL NOT NULL,
        lease_seconds REAL NOT NULL
    )""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)

RENEWAL = "CREATE TABLE IF NOT EXISTS renewal (id INTEGER PRIMARY KEY)"
"""A row until who published is told that the file is new, or that another one was in its place for a while.

An older version neither makes it nor minds it."""

PRAGMAS = (
    # A settled message leaves no name and no address behind in a freed page.
    "PRAGMA secure_delete = ON",
    # The log is cut back after a checkpoint instead of staying as large as the largest backlog made it.
    "PRAGMA journal_size_limit = 16777216",
)


class FileRefused(Exception):  # noqa: N818
    """A file that we understand well enough to leave alone. The text ends the sentence "The queue file …"."""


def check_ours(connection: sqlite3.Connection) -> int:
    """The schema version of the file, 0 for an empty one. Raises `FileRefused`; changes nothing.

    Inside a transaction: between two of these reads another process may just be creating it.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    application_id = connection.execute("PRAGMA application_id").fetchone()[0]
    if application_id != APPLICATION_ID and connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise FileRefused("is not a queue of Leads: name another path, or move that file away")
    if version > SCHEMA_VERSION:
        raise FileRefused(
            f"was written by a newer Leads (schema {version}, this one knows {SCHEMA_VERSION}): start the newer one, "
            "or name another path"
        )
    return version


def create(connection: sqlite3.Connection) -> None:
    """Make the tables, unless another process just did. Inside a transaction."""
    is_new = check_ours(connection) == 0
    if is_new:
        for statement in SCHEMA:
            connection.execute(statement)
    connection.execute(RENEWAL)
    if is_new:
        note_renewal(connection)


def note_renewal(connection: sqlite3.Connection) -> None:
    """Leave a note that events were published which this file never got. Inside a transaction."""
    connection.execute("INSERT INTO renewal DEFAULT VALUES")
