"""What Leads kept of a burst: how long it takes until all of it is done, and that none of it is missing."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from bench.peers.protocol import Lost
from tests.harness.deployment import Deployment
from tests.harness.kept import blobs, rows

STALLED_SECONDS = 60.0
"""The e-mails of a burst may take their time, but some must come all along."""


async def wait_until_drained(deployment: Deployment) -> float:
    """Seconds until every accepted lead has both of its e-mails. Raises `Lost` when they no longer come."""
    started = moved = time.monotonic()
    sent = -1
    while True:
        before, sent = sent, emails_sent(deployment)
        now = time.monotonic()
        if sent >= 2 * count(deployment.leads_db, "leads"):
            return now - started
        if sent > before:
            moved = now
        elif now > moved + STALLED_SECONDS:
            raise Lost(f"the e-mails did not follow: {sent:,} were sent, and no more come")
        await asyncio.sleep(0.25)


def check_nothing_is_missing(deployment: Deployment, at_least: int, mails: Callable[[], int] | None = None) -> int:
    """Rows, blobs, events and e-mails all number the same; returns how many leads. Raises `Lost`.

    `mails` tells how many e-mails arrived, where they do not go into the mailbox folder.
    """
    leads = count(deployment.leads_db, "leads")
    published = count(deployment.leads_db, "outbox", "published_at IS NOT NULL")
    stored = len(blobs(deployment))
    arrived = mails() if mails else sum(1 for _ in deployment.mailbox.glob("*.eml"))
    found = {"leads": leads, "events": published, "blobs": stored, "e-mails / 2": arrived / 2}
    if leads < at_least or set(found.values()) != {leads}:
        raise Lost(f"{at_least:,} leads were answered 201, but there are {found}")
    return leads


def count(database: Path | str, table: str, where: str = "1 = 1") -> int:
    """Rows of a table, read from outside. The database is a file of SQLite, or the URL of PostgreSQL."""
    return int(rows(database, f"SELECT count(*) FROM {table} WHERE {where}")[0][0])


def emails_sent(deployment: Deployment) -> int:
    """E-mails that the notifier has handed over."""
    return count(deployment.notifier_db, "emails", "state = 'sent'")
