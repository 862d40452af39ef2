"""A deployment moves from SQLite to PostgreSQL while leads come in: none is lost, no e-mail comes twice."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.checker import Attempt
from tests.chaos.storm import Storm
from tests.harness import kept
from tests.harness.client import Client
from tests.harness.commands import Done, leads
from tests.harness.deployment import ADMIN, PASSWORD, ROOT, Deployment
from tests.harness.files import pdf
from tests.harness.invariants import blob_hash, until
from tests.harness.moves import in_postgresql, in_sqlite
from tests.harness.sizes import House, with_sendgrid

pytestmark = [pytest.mark.postgresql, pytest.mark.long, pytest.mark.timeout(240)]

STEPS = (60, 90, 120, 150)
"""Leads that are answered before the first run begins, before one is killed, before the last try, and in all."""

FOR_EVER = 10**9
DRAIN_SECONDS = 90.0
STAFF = "bo@example.com"
KEY = {"Idempotency-Key": "a-key-of-before"}


async def test_leads_emails_keys_and_users_are_in_postgresql_and_nothing_is_lost_or_doubled(
    tmp_path: Path, postgres_url
):
    async with with_sendgrid(tmp_path, {"LEADS_MIGRATE_TO_URL": postgres_url}) as house:
        deployment = house.deployment
        first = await before_the_move(house)
        ledger = await moved_while_leads_come_in(house)
        for room in ("api", "notifier", "storage"):
            await deployment.stop(room)
        assert {"sent", "pending"} <= {state for state, _ in kept.email_rows(deployment).values()}
        before = in_sqlite(deployment.data)
        finished = await migrate(deployment, "--finish")
        assert (finished.status, finished.errors) == (0, "")
        assert in_postgresql(postgres_url) == before

        await the_old_settings_start_nothing(deployment)
        house.sendgrid.behave("accept")
        for setting in ("LEADS_DATABASE_URL", "LEADS_NOTIFIER_DATABASE_URL"):
            deployment.environment[setting] = postgres_url
        await deployment.start()
        await all_is_as_before(house, first, ledger)


async def before_the_move(house: House) -> bytes:
    """A lead with a key, reached out to by somebody; the answer that the key is to give for seven days."""
    added = await leads(house.deployment, "users", "add", STAFF, "--password-stdin", stdin=f"{PASSWORD}\n")
    assert added.status == 0
    async with Client(house.deployment.api_url) as client:
        answer = await client.post_lead("first@example.com", pdf(3000), headers=KEY)
        assert (await client.login(STAFF, PASSWORD)).status == 200
        moved = await client.call("PATCH", f"/leads/{answer.json['id']}", json={"state": "REACHED_OUT"})
        assert moved.status == 200
    await until(lambda: len(house.inbox()) == 2)
    return answer.body


async def moved_while_leads_come_in(house: House) -> list[Attempt]:
    """Copied, killed while copying, refused while it runs; every lead is answered meanwhile.

    SendGrid refuses the key after a while, so that some e-mails are sent and others wait when Leads stops.
    """
    deployment = house.deployment
    storm = Storm(deployment.api_url, "move", dice=random.Random(1))
    posting = asyncio.create_task(storm.run(FOR_EVER))
    await storm.reaches(STEPS[0])
    assert (await migrate(deployment)).status == 0
    house.sendgrid.behave("401")
    await storm.reaches(STEPS[1])
    killed = await asyncio.create_subprocess_exec(ROOT / "leads", "migrate", env=deployment.environment)
    await asyncio.sleep(random.Random(2).uniform(0.5, 2))
    if killed.returncode is None:
        killed.kill()
    await killed.wait()
    await storm.reaches(STEPS[2])
    refused = await migrate(deployment, "--finish")
    assert refused.status == 2
    assert "leads.db is in use: stop Leads" in refused.errors
    await storm.reaches(storm.answered + storm.gave_up + STEPS[3] - STEPS[2])
    storm.end()
    await posting
    assert not [attempt for attempt in storm.ledger if attempt.status not in (201, None)]
    return storm.ledger


async def the_old_settings_start_nothing(deployment: Deployment) -> None:
    for room in ("api", "notifier"):
        deployment.launch(room)
        assert await asyncio.to_thread(deployment.processes[room].wait, 30) == 78
        assert "was moved to PostgreSQL by `leads migrate`" in deployment.log(room)[-1]["event"]


async def all_is_as_before(house: House, first: bytes, ledger: list[Attempt]) -> None:
    deployment = house.deployment
    await until(lambda: all_sent(deployment), seconds=DRAIN_SECONDS)
    arrived = Counter((mail.lead_id, mail.kind) for mail in house.inbox())
    assert set(arrived) == set(kept.email_rows(deployment))
    assert {key for key, count in arrived.items() if count > 1} == set()

    async with Client(deployment.api_url) as client:
        again = await client.post_lead("first@example.com", pdf(3000), headers=KEY)
        assert (again.status, again.body, again.headers["Idempotency-Replayed"]) == (201, first, "true")
        assert (await client.login(ADMIN, PASSWORD)).status == 200
        assert (await client.login(STAFF, PASSWORD)).status == 200
        promised = {attempt.lead_id: attempt.sha256 for attempt in ledger if attempt.status == 201}
        listed = await client.call("GET", "/leads?state=REACHED_OUT&total=true")
        assert [(one["email"], listed.json["total"]) for one in listed.json["items"]] == [("first@example.com", 1)]
        for lead_id in random.Random(3).sample(sorted(promised), 10):
            assert (await client.call("GET", f"/leads/{lead_id}/resume")).status == 200
    found = kept.rows(deployment.leads_db, "SELECT id, resume_path FROM leads")
    assert promised.keys() <= {lead_id for lead_id, _ in found}
    assert all(blob_hash(deployment, path) == promised[one] for one, path in found if one in promised)
    audit = await leads(deployment, "audit", "--deep")
    assert (audit.status, audit.errors) == (0, ""), audit.output


def all_sent(deployment: Deployment) -> bool:
    ((count,),) = kept.rows(deployment.leads_db, "SELECT count(*) FROM leads")
    return [state for state, _ in kept.email_rows(deployment).values()] == ["sent"] * 2 * count


async def migrate(deployment: Deployment, *options: str) -> Done:
    return await leads(deployment, "migrate", "--from", "sqlite", "--to", "postgresql", *options)
