"""The staff's list with many leads: 50 of one state, newest first, signed in, one page after the other."""

import secrets
import sqlite3
import time
import uuid
from datetime import UTC, datetime, timedelta

from tests.harness.client import Client
from tests.harness.deployment import ADMIN, PASSWORD, Deployment


def add_leads(deployment: Deployment, total: int) -> None:
    """Rows straight into the database, until there are `total`."""
    connection = sqlite3.connect(deployment.data / "leads.db")
    already = connection.execute("SELECT count(*) FROM leads").fetchone()[0]
    first = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=365)
    with connection:
        connection.executemany(
            "INSERT INTO leads VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (_row(number, first) for number in range(total - already)),
        )
        connection.execute("ANALYZE")
    connection.close()


async def page_latencies_ms(deployment: Deployment, pages: int) -> list[float]:
    """Milliseconds for each page, sorted; pages follow the cursor."""
    spans = []
    async with Client(deployment.api_url) as client:
        await client.login(ADMIN, PASSWORD)
        path = first = "/leads?state=PENDING&limit=50"
        for _ in range(pages):
            started = time.perf_counter()
            answer = await client.call("GET", path)
            spans.append((time.perf_counter() - started) * 1000)
            if answer.status != 200 or len(answer.json["items"]) != 50:
                raise AssertionError(answer.body)
            path = f"{first}&cursor={answer.json['next_cursor']}"
    return sorted(spans)


def _row(number: int, first: datetime) -> tuple[object, ...]:
    email = f"list-{uuid.uuid4().hex}@bench.example"
    name = secrets.token_hex(4)
    created = (first + timedelta(seconds=number)).isoformat(" ", timespec="microseconds")
    state = "REACHED_OUT" if number % 5 == 0 else "PENDING"
    sha = secrets.token_hex(32)
    search = f"ann {name} {email}"
    key = str(uuid.uuid4())
    return (
        str(uuid.uuid4()),
        "Ann",
        name,
        email,
        email,
        search,
        key,
        "cv.pdf",
        "application/pdf",
        65536,
        sha,
        state,
        1,
        created,
    )
