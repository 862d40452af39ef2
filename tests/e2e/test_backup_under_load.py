"""A backup taken while leads come in brings all of them back, with their e-mails, after everything else is gone."""

import asyncio
import random
import shutil
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shared.topology import NOTIFIER_QUEUE
from tests.chaos.checker import Attempt
from tests.chaos.storm import Storm
from tests.harness import kept
from tests.harness.commands import leads
from tests.harness.deployment import ROOMS, Deployment
from tests.harness.invariants import blob_hash, until
from tests.harness.sizes import AT_SCALE, EMBEDDED, House, at_scale, with_sendgrid

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

BEFORE, AFTER = 150, 100
"""Leads that are answered before the backup begins, and after it is done."""

SLOW_SECONDS = 0.4
"""What SendGrid takes for an e-mail, so that many are on their way when the backup is taken."""

FOR_EVER = 10**9
DRAIN_SECONDS = 90.0


@asynccontextmanager
async def house_of(size: str, folder: Path, request):
    if size == EMBEDDED:
        async with with_sendgrid(folder) as house:
            yield house
    else:
        async with at_scale(folder, request.getfixturevalue("rabbit_node")) as house:
            yield house


@pytest.mark.parametrize("size", [EMBEDDED, pytest.param(AT_SCALE, marks=pytest.mark.rabbitmq)])
async def test_a_restored_backup_has_every_lead_and_doubles_no_email_unannounced(size: str, tmp_path: Path, request):
    async with house_of(size, tmp_path, request) as house:
        house.sendgrid.behave("slow", seconds=SLOW_SECONDS)
        storm = Storm(house.deployment.api_url, size, dice=random.Random(1))
        posting = asyncio.create_task(storm.run(FOR_EVER))
        await storm.reaches(BEFORE)
        promised = [attempt for attempt in storm.ledger if attempt.status == 201]
        done = await leads(house.deployment, "backup", str(tmp_path / "backups"))
        assert (done.status, done.errors) == (0, "")
        await storm.reaches(storm.answered + storm.gave_up + AFTER)
        posting.cancel()
        everything_is_lost(house, request)

        (backup,) = (tmp_path / "backups").glob("2*")
        restored = await leads(house.deployment, "restore", str(backup))
        assert (restored.status, restored.errors) == (0, "")
        announced = uncertain(house.deployment, backup.name)
        assert announced
        house.sendgrid.behave("accept")
        await house.deployment.start()
        await until(lambda: all_sent(house.deployment), seconds=DRAIN_SECONDS)

        check_leads(house.deployment, promised)
        check_mails(house, announced)
        audit = await leads(house.deployment, "audit", "--deep")
        assert (audit.status, audit.errors) == (0, ""), audit.output


def everything_is_lost(house: House, request) -> None:
    for room in ROOMS:
        house.deployment.kill(room)
    shutil.rmtree(house.deployment.data)
    broker = house.deployment.environment.get("LEADS_BROKER_URL")
    if broker is not None:
        vhost = urlsplit(broker).path.removeprefix("/")
        request.getfixturevalue("rabbit_node").delete_queue(vhost, NOTIFIER_QUEUE)


def uncertain(deployment: Deployment, backup: str) -> set[tuple[str, str]]:
    """Lead and kind of the e-mails that the restore has written down as uncertain, naming the backup."""
    query = "SELECT lead_id, kind FROM emails WHERE state = 'uncertain' AND instr(reason, ?)"
    return set(kept.rows(deployment.notifier_db, query, backup))


def all_sent(deployment: Deployment) -> bool:
    ids = [lead_id for (lead_id,) in kept.rows(deployment.leads_db, "SELECT id FROM leads")]
    sent = {key for key, (state, _) in kept.email_rows(deployment).items() if state == "sent"}
    return sent == {(lead_id, kind) for lead_id in ids for kind in ("prospect", "staff")}


def check_leads(deployment: Deployment, promised: list[Attempt]) -> None:
    """Each that was answered before is there, with its bytes; what else is there is whole, too."""
    found = kept.rows(deployment.leads_db, "SELECT id, resume_path, resume_sha256 FROM leads")
    assert {attempt.lead_id for attempt in promised} <= {lead_id for lead_id, _, _ in found}
    assert {path for _, path, _ in found} == kept.blobs(deployment)
    assert all(blob_hash(deployment, path) == sha256 for _, path, sha256 in found)
    sent = {attempt.lead_id: attempt.sha256 for attempt in promised}
    assert all(sent.get(lead_id, sha256) == sha256 for lead_id, _, sha256 in found)


def check_mails(house: House, announced: set[tuple[str, str]]) -> None:
    """Each arrived; twice only what was announced, and that did happen."""
    arrived = Counter((mail.lead_id, mail.kind) for mail in house.inbox())
    wanted = set(kept.email_rows(house.deployment))
    assert wanted <= arrived.keys()
    doubled = {key for key in wanted if arrived[key] > 1}
    assert doubled
    assert doubled <= announced
    assert max(arrived.values()) == 2
