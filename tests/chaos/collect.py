"""Collects the facts for the checker from a deployment at rest, behind its back: files, rows, queue, inbox."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from email.parser import BytesHeaderParser
from email.utils import getaddresses

from shared.bus import EventBus, QueueStats, bus_for
from shared.topology import NOTIFIER_QUEUE, leads_topology
from tests.chaos.checker import Arrived, Attempt, EmailRow, EventRow, Facts, LeadRow
from tests.harness.deployment import Deployment
from tests.harness.kept import blobs, rows
from tests.harness.sizes import House
from tests.harness.stored import hashes

LOOK_AGAIN_SECONDS = 0.3


async def facts_at_rest(
    house: House, ledger: Sequence[Attempt], retry_delays_seconds: Sequence[float], *, patience_seconds: float
) -> Facts:
    """The facts, once everything has come to rest, or when patience has run out: the checker says what is stuck.

    They are collected at rest only: looked up while things move, what came after one look and before the next would
    seem lost.
    """
    deadline = time.monotonic() + patience_seconds
    async with _bus(house.deployment, retry_delays_seconds) as bus:
        queue = leads_topology(retry_delays_seconds).queue(NOTIFIER_QUEUE)
        while _moving(house.deployment, await bus.stats(queue)) and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        stats = await bus.stats(queue)
        return facts_now(house, ledger, waiting=_waiting(stats), dead=stats.dead)


def facts_now(house: House, ledger: Sequence[Attempt], *, waiting: int, dead: int) -> Facts:
    """The facts as they are now, with what the queues were found to hold."""
    return replace(
        _rows(house.deployment),
        attempts=tuple(ledger),
        blobs=hashes(house.deployment),
        mails=tuple(_arrived(house)),
        waiting=waiting,
        dead=dead,
    )


def _moving(deployment: Deployment, stats: QueueStats) -> bool:
    """Whether there is still something to be done, as far as counting tells. What failed waits for people only."""
    api, notifier = deployment.leads_db, deployment.notifier_db
    events, published = rows(api, "SELECT count(*), count(published_at) FROM outbox")[0]
    is_settled = "lower(state) IN ('sent', 'failed')"
    emails, settled = rows(notifier, f"SELECT count(*), count(CASE WHEN {is_settled} THEN 1 END) FROM emails")[0]
    referred_to = {path for (path,) in rows(api, "SELECT resume_path FROM leads")}
    done = published == events and settled == emails == 2 * events and blobs(deployment) <= referred_to
    return not done or _waiting(stats) > 0


def _arrived(house: House) -> Iterator[Arrived]:
    """Of the mailbox's thousands of files only the headers: to read them as a mail program does takes a minute."""
    if house.sendgrid is not None:
        yield from (Arrived(mail.email_id, mail.lead_id, mail.kind, mail.to) for mail in house.inbox())
        return
    for path in house.deployment.mailbox.glob("*.eml"):
        mail = BytesHeaderParser().parsebytes(path.read_bytes())
        to = tuple(address for _, address in getaddresses(mail.get_all("To", [])))
        yield Arrived(mail["X-Leads-Email-Id"], mail["X-Leads-Lead-Id"], mail["X-Leads-Kind"], to)


def _waiting(stats: QueueStats) -> int:
    return stats.ready + (stats.unacked or 0) + sum(stats.retrying.values())


def _rows(deployment: Deployment) -> Facts:
    emails = rows(deployment.notifier_db, "SELECT id, lead_id, kind, state, attempts FROM emails")
    events = rows(deployment.leads_db, "SELECT id, subject, published_at FROM outbox")
    leads = rows(deployment.leads_db, "SELECT id, email, resume_path, resume_sha256 FROM leads")
    return Facts(
        attempts=(),
        leads=tuple(LeadRow(*row) for row in leads),
        blobs={},
        events=tuple(EventRow(id_, lead, is_published=at is not None) for id_, lead, at in events),
        emails=tuple(EmailRow(id_, lead, kind.lower(), state.lower(), n) for id_, lead, kind, state, n in emails),
        mails=(),
        waiting=0,
        dead=0,
    )


def _bus(deployment: Deployment, retry_delays_seconds: Sequence[float]) -> EventBus:
    url = deployment.environment.get("LEADS_BROKER_URL", f"sqlite:///{deployment.data / 'queue.db'}")
    return bus_for(url, leads_topology(retry_delays_seconds), client_name="chaos")
