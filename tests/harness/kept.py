"""What a deployment keeps, looked up behind its back, or changed there: rows, blobs, messages, mails."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.harness import mariadb, postgresql
from tests.harness.deployment import Deployment
from tests.harness.inbox import Inbox
from tests.harness.stored import stored


def rows(database: Path | str, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows of a query, as another process sees them. Its values stand for `?`, with a server too."""
    if isinstance(database, str):
        return _query(database)(database, query, *values)
    connection = sqlite3.connect(database, timeout=10)
    try:
        return connection.execute(query, values).fetchall()
    finally:
        connection.close()


def change(database: Path | str, statement: str, *values: Any) -> None:
    """Carry out a statement, as somebody with a shell might. Its values stand for `?`."""
    if isinstance(database, str):
        _query(database)(database, statement, *values)
        return
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        connection.execute(statement, values)


def _query(url: str) -> Callable[..., list[tuple[Any, ...]]]:
    return mariadb.query if url.startswith("mysql") else postgresql.query


def lead_rows(deployment: Deployment, email: str) -> int:
    """How many leads have this address, in whatever case."""
    return int(rows(deployment.leads_db, "SELECT count(*) FROM leads WHERE email_key = ?", email.lower())[0][0])


def event_rows(deployment: Deployment) -> int:
    """How many events were ever written down."""
    return int(rows(deployment.leads_db, "SELECT count(*) FROM outbox")[0][0])


def email_rows(deployment: Deployment) -> dict[tuple[str, str], tuple[str, int]]:
    """State (lower case) and attempts of each e-mail, by lead and kind."""
    found = rows(deployment.notifier_db, "SELECT lead_id, kind, state, attempts FROM emails")
    return {(lead_id, kind.lower()): (state.lower(), attempts) for lead_id, kind, state, attempts in found}


def blobs(deployment: Deployment) -> set[str]:
    """Ids of the blobs that are stored."""
    return stored(deployment).names()


def unfinished(deployment: Deployment) -> set[str]:
    """Bodies that are on their way in, or never got there."""
    return stored(deployment).unfinished()


def unfinished_mails(deployment: Deployment) -> set[str]:
    """E-mails that are on their way into the mailbox folder, or never got there."""
    incoming = deployment.mailbox / ".incoming"
    return {path.name for path in incoming.iterdir()} if incoming.exists() else set()


def traces(deployment: Deployment, inbox: Inbox) -> Callable[[], tuple[int, int, int, int]]:
    """A look at everything that a lead leaves behind: leads, events, blobs, e-mails."""

    def look() -> tuple[int, int, int, int]:
        ((leads,),) = rows(deployment.leads_db, "SELECT count(*) FROM leads")
        return leads, event_rows(deployment), len(blobs(deployment)), len(inbox())

    return look


@contextmanager
def write_lock(database: Path) -> Iterator[None]:
    """Hold the database's only write lock, as a backup or a person with a shell might."""
    connection = sqlite3.connect(database, timeout=10, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()
