"""From accepted to e-mailed: at a steady rate (open model: the next lead does not wait for the last answer)."""

import asyncio
import random
import sqlite3
import time
import uuid
from datetime import datetime

from bench.intake import RESUME_BYTES, wait_until_drained
from tests.harness.client import Client
from tests.harness.deployment import Deployment
from tests.harness.files import pdf


async def accepted_to_mailed_ms(deployment: Deployment, *, per_second: int, seconds: int) -> list[float]:
    """Milliseconds from a lead's `created_at` to the record that its e-mail was sent, for each e-mail, sorted."""
    run = uuid.uuid4().hex[:8]
    async with Client(deployment.api_url) as client, asyncio.TaskGroup() as sending:
        started = time.monotonic()
        for number in range(per_second * seconds):
            await asyncio.sleep(max(0.0, started + number / per_second - time.monotonic()))
            sending.create_task(_post(client, f"mail-{run}-{number}@bench.example"))
    await wait_until_drained(deployment)
    return _latencies_ms(deployment, run)


async def _post(client: Client, email: str) -> None:
    answer = await client.post_lead(email, pdf(RESUME_BYTES, seed=random.getrandbits(30)))
    if answer.status != 201:
        raise AssertionError(f"{answer.status}: {answer.body!r}")


def _latencies_ms(deployment: Deployment, run: str) -> list[float]:
    connection = sqlite3.connect(f"file:{deployment.data / 'leads.db'}?mode=ro", uri=True)
    connection.execute("ATTACH ? AS notifier", (str(deployment.data / "notifier.db"),))
    rows = connection.execute(
        "SELECT l.created_at, e.updated_at FROM leads l JOIN notifier.emails e ON e.lead_id = l.id"
        " WHERE l.email LIKE ? AND e.state = 'sent'",
        (f"mail-{run}-%",),
    ).fetchall()
    connection.close()
    spans = [datetime.fromisoformat(sent) - datetime.fromisoformat(created) for created, sent in rows]
    return sorted(span.total_seconds() * 1000 for span in spans)
