"""`leads audit` finds whatever does not add up, names it, and finds nothing where everything does.

Each kind of damage is done to the data of a running deployment, behind its back.
"""

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from shared.ids import new_id
from tests.harness import kept
from tests.harness.client import Client
from tests.harness.commands import leads
from tests.harness.files import pdf
from tests.harness.sizes import House, embedded

pytestmark = pytest.mark.asyncio(loop_scope="module")

GRACE_SECONDS = 600.0
OUT_OF_SIGHT_SECONDS = 1400.0
"""More than two sweeps (600 s each, by default) and what they may take: until then the api is about to remove it."""
SUBJECTS = {"lead", "event", "e-mail", "blob"}
SETTINGS = {"LEADS_ORPHAN_GRACE_SECONDS": str(GRACE_SECONDS), "LEADS_RETRY_DELAYS_SECONDS": "[600]"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory):
    async with embedded(tmp_path_factory.mktemp("house"), SETTINGS) as house:
        yield house


async def kept_lead(house: House) -> dict:
    """A lead that was answered with 201."""
    async with Client(house.deployment.api_url) as client:
        return (await client.post_lead(f"{new_id()}@example.com", pdf(3000))).json


async def whole_lead(house: House) -> dict:
    """A lead whose e-mails are sent."""
    lead = await kept_lead(house)
    await until(lambda: states(house, lead) == ["sent", "sent"])
    return lead


async def lead_on_bus(house: House) -> dict:
    """A lead whose event is published, and which no notifier takes up."""
    lead = await kept_lead(house)
    published = "SELECT count(published_at) FROM outbox WHERE subject = ?"
    await until(lambda: kept.rows(house.deployment.leads_db, published, lead["id"]) == [(1,)])
    return lead


def states(house: House, lead: dict) -> list[str]:
    return [state for (lead_id, _), (state, _) in kept.email_rows(house.deployment).items() if lead_id == lead["id"]]


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not is_so():
            await asyncio.sleep(0.05)


def change(house: House, database: str, statement: str, *values: object) -> None:
    """Change rows as no room does; at least one must be met."""
    with closing(sqlite3.connect(house.deployment.data / database, timeout=10)) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def event_of(house: House, lead: dict) -> str:
    found = kept.rows(house.deployment.leads_db, "SELECT id FROM outbox WHERE subject = ?", lead["id"])
    return found[0][0]


def blob_of(house: House, lead: dict) -> Path:
    return house.deployment.resumes / lead["resume_path"]


def add_blob(house: House, *, age_seconds: float) -> str:
    path = house.deployment.resumes / new_id()
    path.write_bytes(b"nobody's")
    os.utime(path, (time.time() - age_seconds,) * 2)
    return path.name


async def audit(house: House, *options: str) -> tuple[int, set[tuple[str, str]], dict]:
    """Exit status, kind and id of each finding, and the summary."""
    done = await leads(house.deployment, "audit", "--json", *options)
    assert done.errors == ""
    *lines, last = [json.loads(line) for line in done.output.splitlines()]
    found = {(line["finding"], line[subject]) for line in lines for subject in SUBJECTS & line.keys()}
    assert len(found) == len(lines) == last["summary"]["discrepancies"] + last["summary"]["mended"]
    return done.status, found, last["summary"]


@pytest.mark.long
async def test_what_is_whole_adds_up_and_so_does_what_waits(house: House):
    await whole_lead(house)
    status, found, counts = await audit(house, "--deep")
    assert (status, found) == (0, set())
    assert (counts["leads"], counts["blobs"], counts["events"], counts["emails"]) == (1, 1, 1, {"sent": 2})

    await house.deployment.stop("notifier")
    waiting, dead = await lead_on_bus(house), await lead_on_bus(house)
    change(house, "queue.db", "UPDATE message SET dead_at = 1, reason = 'refused' WHERE id = ?", event_of(house, dead))
    young = add_blob(house, age_seconds=1)
    status, found, counts = await audit(house)
    assert (status, found) == (0, set())
    assert (counts["waiting_on_bus"], counts["dead"], counts["blobs_in_flight"]) == (2, 1, 1)

    (house.deployment.resumes / young).unlink()
    assert (await leads(house.deployment, "queues", "replay")).status == 0
    await house.deployment.restart("notifier")
    await until(lambda: states(house, waiting) == states(house, dead) == ["sent", "sent"])


@pytest.mark.long
async def test_each_kind_of_damage_is_found_and_named(house: House):
    """All done to one deployment, each to a lead of its own: what is found is that, and nothing else."""
    no_blob, short, flipped, no_event, two_events, no_email, no_lead = [await whole_lead(house) for _ in range(7)]
    blob_of(house, no_blob).unlink()
    os.truncate(blob_of(house, short), 2999)
    flip_last_byte(blob_of(house, flipped))
    gone_event, gone_emails = event_of(house, no_lead), email_ids(house, no_lead)
    change(house, "leads.db", "DELETE FROM outbox WHERE subject = ?", no_event["id"])
    change(
        house,
        "leads.db",
        "INSERT INTO outbox SELECT ?, type, subject, body, correlation_id, traceparent, created_at, published_at,"
        " waiting_since FROM outbox WHERE subject = ?",
        new_id(),
        two_events["id"],
    )
    change(house, "notifier.db", "DELETE FROM emails WHERE lead_id = ? AND kind = 'staff'", no_email["id"])
    change(house, "leads.db", "DELETE FROM leads WHERE id = ?", no_lead["id"])
    await house.deployment.stop("notifier")
    no_message = await lead_on_bus(house)
    change(house, "queue.db", "DELETE FROM message WHERE id = ?", event_of(house, no_message))
    await house.deployment.restart("notifier")
    orphan = add_blob(house, age_seconds=GRACE_SECONDS + OUT_OF_SIGHT_SECONDS)

    shallow = {
        ("resume-missing", no_blob["id"]),
        ("resume-size", short["id"]),
        ("event-missing", no_event["id"]),
        ("event-repeated", two_events["id"]),
        ("email-lost", no_email["id"]),
        ("email-lost", no_message["id"]),
        ("event-without-lead", gone_event),
        *(("email-without-lead", id_) for id_ in gone_emails),
        ("orphan-blob", orphan),
    }
    status, found, counts = await audit(house)
    assert (status, found) == (1, shallow)
    assert counts["blobs_in_flight"] == 1  # the resume of the lead that was deleted

    before = kept.blobs(house.deployment)
    status, found, counts = await audit(house, "--deep", "--fix")
    assert (status, found) == (1, {*shallow, ("resume-content", flipped["id"])})
    assert kept.blobs(house.deployment) == before  # resumes may be all that is left of the leads that are gone
    assert counts["mended"] == 0

    change(house, "leads.db", "DELETE FROM outbox WHERE subject = ?", no_lead["id"])
    change(house, "notifier.db", "DELETE FROM emails WHERE lead_id = ?", no_lead["id"])
    told = await leads(house.deployment, "audit", "--fix")
    assert told.status == 1
    assert before - kept.blobs(house.deployment) == {orphan}
    assert f"blob {orphan}: no lead refers to it" in told.output
    assert f"lead {no_blob['id']}: its resume is missing (resumes/{no_blob['resume_path']})" in told.output
    assert f"lead {no_message['id']}: its prospect e-mail is missing, its staff e-mail is missing, and" in told.output


@pytest.mark.long
async def test_a_lost_event_can_be_published_again_as_the_docs_say(house: House):
    await house.deployment.stop("notifier")
    lead = await lead_on_bus(house)
    change(house, "queue.db", "DELETE FROM message WHERE id = ?", event_of(house, lead))
    assert ("email-lost", lead["id"]) in (await audit(house))[1]
    stranger = await leads(house.deployment, "queues", "republish", "--lead", lead["id"], "--lead", "nobody")
    assert (stranger.status, stranger.errors.count("\n")) == (1, 1)
    done = await leads(house.deployment, "queues", "republish", "--lead", lead["id"])
    assert (done.status, done.output.split()[0]) == (0, "1")
    await house.deployment.restart("notifier")
    await until(lambda: states(house, lead) == ["sent", "sent"])


async def audit_metrics(house: House) -> dict[str, float]:
    async with Client(house.deployment.api_url) as client:
        lines = (await client.call("GET", "/metrics")).body.decode().splitlines()
    return {name: float(value) for name, value in (line.split() for line in lines if line.startswith("leads_audit"))}


@pytest.mark.long
async def test_the_result_is_a_metric_of_the_api(house: House):
    began_at = time.time()
    _, found, counts = await audit(house)
    await house.deployment.stop("api")
    await house.deployment.restart("api")
    metrics = await audit_metrics(house)
    while metrics["leads_audit_last_run_timestamp_seconds"] == 0:  # it measures beside its start
        metrics = await audit_metrics(house)
    assert began_at < metrics.pop("leads_audit_last_run_timestamp_seconds") < time.time()
    assert metrics == {"leads_audit_discrepancies": len(found), "leads_audit_leads_checked": counts["leads"]}


@pytest.mark.long
async def test_an_orphan_that_the_api_is_about_to_sweep_is_no_news_and_can_be_removed_now(house: House):
    orphan = add_blob(house, age_seconds=GRACE_SECONDS + 5)
    _, found, _ = await audit(house)
    assert ("orphan-blob", orphan) not in found
    _, found, _ = await audit(house, "--fix")
    assert ("orphan-blob", orphan) in found
    assert orphan not in kept.blobs(house.deployment)


@pytest.mark.long
async def test_resumes_beside_an_empty_database_are_not_orphans_but_all_that_is_left(
    house: House, tmp_path, monkeypatch
):
    before = kept.blobs(house.deployment)
    for setting, name in (("LEADS_DATABASE_URL", "leads.db"), ("LEADS_NOTIFIER_DATABASE_URL", "notifier.db")):
        monkeypatch.setitem(house.deployment.environment, setting, f"sqlite:///{tmp_path / name}")
    old = add_blob(house, age_seconds=GRACE_SECONDS + OUT_OF_SIGHT_SECONDS)
    assert (await leads(house.deployment, "init")).status == 0
    done = await leads(house.deployment, "audit", "--fix")
    assert (done.status, kept.blobs(house.deployment) - before) == (1, {old})
    assert "not removed, because leads seem to be missing" in done.output


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("LEADS_DATABASE_URL", "sqlite:////nowhere/leads.db"),
        ("LEADS_NOTIFIER_DATABASE_URL", "sqlite:////nowhere/notifier.db"),
        ("LEADS_BLOB_URL", "file:///nowhere/resumes"),
        ("LEADS_BROKER_URL", "amqp://leads:secret@127.0.0.1:1/leads"),
    ],
)
async def test_what_cannot_be_read_is_one_line_that_names_its_setting(house: House, monkeypatch, setting, value):
    monkeypatch.setitem(house.deployment.environment, setting, value)
    done = await leads(house.deployment, "audit", "--json")
    assert (done.status, done.output) == (2, "")
    assert setting in done.errors
    assert len(done.errors.splitlines()) == 1
    assert "secret" not in done.errors


def flip_last_byte(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)


def email_ids(house: House, lead: dict) -> list[str]:
    found = kept.rows(house.deployment.notifier_db, "SELECT id FROM emails WHERE lead_id = ?", lead["id"])
    return [id_ for (id_,) in found]
