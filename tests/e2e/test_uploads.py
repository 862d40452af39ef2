"""A big resume goes straight to the storage, whatever breaks on the way, and one lead is made of it."""

import asyncio
import hashlib
import os
import re
import shutil
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from shared.tickets import TICKET_SECONDS, UNCLAIMED_SECONDS, Tickets
from shared.tokens import LEEWAY_SECONDS
from tests.harness import kept, raw_http
from tests.harness.client import Answer, Client
from tests.harness.crash_points import CrashPoint
from tests.harness.deployment import ADMIN, PASSWORD, ROOT, Deployment
from tests.harness.files import MIB, docx, exe, pdf
from tests.harness.inbox import wait_for
from tests.harness.missing import cannot_run
from tests.harness.sizes import House, embedded
from tests.harness.tus import Sender

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLIC_URL = "https://uploads.example.com"
SMALL = pdf(300_000)
SWEEP_SECONDS = 0.3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory):
    settings = {
        "LEADS_STORAGE_PUBLIC_URL": f"{PUBLIC_URL}/",
        "LEADS_RESUME_MAX_BYTES": str(32 * MIB),
        "LEADS_ORPHAN_GRACE_SECONDS": "2",
        "LEADS_SWEEP_INTERVAL_SECONDS": str(SWEEP_SECONDS),
    }
    async with embedded(tmp_path_factory.mktemp("house"), settings) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def client(house: House):
    async with Client(house.deployment.api_url) as client:
        yield client


async def wanted(client: Client, size_bytes: Any, filename: Any = "cv.pdf") -> Answer:
    return await client.call("POST", "/leads/uploads", json={"filename": filename, "size_bytes": size_bytes})


async def a_ticket(client: Client, body: bytes, filename: str = "cv.pdf") -> Mapping[str, Any]:
    answer = await wanted(client, len(body), filename)
    assert answer.status == 201, answer.json
    return answer.json


def sender(house: House, offer: Mapping[str, Any]) -> Sender:
    """The storage's own door: in front of it there would be a proxy with the public name."""
    return Sender(offer["upload_url"].replace(PUBLIC_URL, house.deployment.url("storage")), offer["ticket"])


async def sent(house: House, client: Client, body: bytes, filename: str = "cv.pdf") -> str:
    """The ticket of a resume that has come."""
    offer = await a_ticket(client, body, filename)
    async with sender(house, offer) as upload:
        assert (await upload.send(body, 0)).status == 204
    return offer["ticket"]


async def claim(client: Client, email: str, ticket: Any, *, headers: Mapping[str, str] | None = None) -> Answer:
    lead = {"first_name": "Ann", "last_name": "Lee", "email": email, "ticket": ticket}
    return await client.call("POST", "/leads", json=lead, headers=headers or {})


def refused(answer: Answer, status: int, problem: str) -> None:
    assert (answer.status, answer.json["type"]) == (status, f"urn:leads:problem:{problem}"), answer.json


async def test_twenty_megabytes_become_a_lead_with_the_same_bytes_and_its_emails(house: House, client: Client):
    body = docx(20_000_000)
    answer = await wanted(client, len(body), r"C:\people\Résumé.docx")
    offer = answer.json
    assert answer.headers["Location"] == offer["upload_url"]
    assert offer["upload_url"].startswith(f"{PUBLIC_URL}/uploads/")
    assert (offer["max_bytes"], offer["protocol"]) == (32 * MIB, "tus/1.0.0")
    assert 0 < datetime.fromisoformat(offer["expires_at"]).timestamp() - time.time() <= TICKET_SECONDS
    async with sender(house, offer) as upload:
        assert (await upload.send(body[:7_000_000], 0)).offset == 7_000_000
        refused(await claim(client, "big@example.com", offer["ticket"]), 409, "upload-unfinished")
        assert (await upload.send_all(body)).offset == len(body)

    lead = await claim(client, "big@example.com", offer["ticket"])
    assert lead.status == 201
    hashed = hashlib.sha256(body).hexdigest()
    assert (lead.json["resume"]["size"], lead.json["resume"]["sha256"]) == (len(body), hashed)
    assert (lead.json["resume"]["filename"], lead.json["state"]) == ("Résumé.docx", "PENDING")
    async with Client(house.deployment.api_url) as staff:
        await staff.login(ADMIN, PASSWORD)
        found = await staff.call("GET", f"{lead.headers['Location']}/resume")
        assert hashlib.sha256(found.body).hexdigest() == hashed
    await wait_for(house.inbox, 2, lead_id=lead.json["id"])
    assert kept.unfinished(house.deployment) == set()


async def test_a_broken_connection_and_a_killed_storage_cost_nothing_that_had_come(house: House, client: Client):
    body = pdf(20_000_000)
    offer = await a_ticket(client, body)
    blob_id = offer["upload_url"].rpartition("/")[2]

    def come() -> int:
        return sum(path.stat().st_size for path in (house.deployment.resumes / ".incoming").glob(f"{blob_id}.*"))

    async with sender(house, offer) as upload:
        async with raw_http.connection(house.deployment.ports["storage"]) as (_, writer):
            writer.write(upload.raw(0, len(body), f"/uploads/{blob_id}") + body[:6_000_000])
            while come() < 5_000_000:
                await asyncio.sleep(0.01)
        offset = await upload.quiet(len(body))
        assert 5_000_000 <= offset <= 6_000_000

        async with raw_http.connection(house.deployment.ports["storage"]) as (_, writer):
            writer.write(upload.raw(offset, len(body) - offset, f"/uploads/{blob_id}") + body[offset:13_000_000])
            while come() < 12_000_000:
                await asyncio.sleep(0.01)
            house.deployment.kill("storage")
        await house.deployment.restart("storage")
        offset = (await upload.ask()).offset or 0
        assert offset >= 12_000_000
        assert (await upload.send(body, offset)).offset == len(body)

    await house.deployment.stop("api")
    await house.deployment.restart("api")
    lead = await claim(client, "broken@example.com", offer["ticket"])
    assert (lead.status, lead.json["resume"]["sha256"]) == (201, hashlib.sha256(body).hexdigest())
    assert kept.unfinished(house.deployment) == set()


@pytest.mark.long
async def test_a_storage_that_is_told_to_stop_waits_for_no_slow_sender_and_keeps_what_came(
    house: House, client: Client
):
    offer = await a_ticket(client, SMALL)
    path = "/uploads/" + offer["upload_url"].rpartition("/")[2]
    async with sender(house, offer) as upload:
        async with raw_http.connection(house.deployment.ports["storage"]) as (_, writer):
            writer.write(upload.raw(0, len(SMALL), path) + SMALL[:200_000])
            while not (await upload.ask()).offset:
                await asyncio.sleep(0.01)
            assert await house.deployment.stop("storage") == 0
        await house.deployment.restart("storage")
        assert 100_000 < await upload.quiet(len(SMALL)) <= 200_000
        assert (await upload.send_all(SMALL)).offset == len(SMALL)
    assert (await claim(client, "told-to-stop@example.com", offer["ticket"])).status == 201


@pytest.mark.long
@pytest.mark.parametrize("step", ["temp synced", "named", "folder synced"])
async def test_a_storage_that_dies_while_it_finishes_an_upload_has_it_whole_afterwards(
    house: House, client: Client, step: str
):
    offer = await a_ticket(client, SMALL)
    house.deployment.kill("storage")
    house.deployment.launch("storage", CrashPoint("storage", step).command)
    await house.deployment.ready("storage")
    async with sender(house, offer) as upload:
        with pytest.raises(aiohttp.ClientError):
            await upload.send(SMALL, 0)
        house.deployment.processes["storage"].wait()
        await house.deployment.restart("storage")
        assert (await upload.ask()).offset == len(SMALL)
    lead = await claim(client, f"died-{step.replace(' ', '-')}@example.com", offer["ticket"])
    assert (lead.status, lead.json["resume"]["sha256"]) == (201, hashlib.sha256(SMALL).hexdigest())
    assert not [name for name in kept.unfinished(house.deployment) if name.startswith(lead.json["resume_path"])]


@pytest.mark.long
@pytest.mark.parametrize("step", ["row written", "row committed", "201 made"])
async def test_an_api_that_dies_with_a_claim_in_hand_leaves_one_lead_or_none_and_the_ticket_makes_it_one(
    house: House, client: Client, step: str
):
    ticket = await sent(house, client, SMALL)
    key = {"Idempotency-Key": f"died at {step}".replace(" ", "-")}
    email = f"died-{step.replace(' ', '-')}@people.example.com"
    house.deployment.kill("api")
    house.deployment.launch("api", CrashPoint("api", step).command)
    await house.deployment.ready("api")
    with pytest.raises(aiohttp.ClientError):
        await claim(client, email, ticket, headers=key)
    house.deployment.processes["api"].wait()
    await house.deployment.restart("api")
    lead = await claim(client, email, ticket, headers=key)
    assert lead.status == 201
    assert kept.lead_rows(house.deployment, email) == 1
    await wait_for(house.inbox, 2, lead_id=lead.json["id"])


async def test_one_ticket_is_one_lead_however_often_it_comes(house: House, client: Client):
    look = kept.traces(house.deployment, house.inbox)
    before = look()
    ticket = await sent(house, client, SMALL)
    at_once = await asyncio.gather(*(claim(client, f"at-once-{n}@example.com", ticket) for n in range(8)))
    assert sorted(answer.status for answer in at_once) == [201] + 7 * [409]
    assert {answer.json["type"] for answer in at_once if answer.status == 409} == {"urn:leads:problem:ticket-used"}
    refused(await claim(client, "later@example.com", ticket), 409, "ticket-used")
    leads, events, blobs, _ = (after - earlier for earlier, after in zip(before, look(), strict=True))
    assert (leads, events, blobs) == (1, 1, 1)


async def test_the_same_key_gets_the_same_answer_also_after_the_ticket_has_expired(house: House, client: Client):
    key = {"Idempotency-Key": "a-key-of-uploads"}
    ticket = await sent(house, client, SMALL)
    answers = await asyncio.gather(*(claim(client, "key@example.com", ticket, headers=key) for _ in range(5)))
    assert {(answer.status, answer.body) for answer in answers} == {(201, answers[0].body)}
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1

    old = expired_twin(house, ticket)
    again = await claim(client, "key@example.com", old, headers=key)
    assert (again.status, again.body, again.headers["Idempotency-Replayed"]) == (201, answers[0].body, "true")
    refused(await claim(client, "other@example.com", old, headers=key), 422, "idempotency-key-reused")
    refused(await claim(client, "other@example.com", old), 409, "ticket-used")
    # The same lead by the form is the same request.
    by_form = await client.post_lead("key@example.com", SMALL, headers=key)
    assert (by_form.status, by_form.body) == (201, answers[0].body)
    assert answers[0].json["resume_path"] in kept.blobs(house.deployment)


def expired_twin(house: House, ticket: str) -> str:
    """The same ticket, made long ago."""
    tickets = Tickets(house.deployment.environment["LEADS_SERVICE_SECRET"])
    good = tickets.read(ticket)
    long_ago = -TICKET_SECONDS - LEEWAY_SECONDS - 1
    said = {"filename": good.filename, "size_bytes": good.size_bytes}
    return tickets._tokens.issue(good.blob_id, TICKET_SECONDS, ahead_seconds=long_ago, **said)


async def test_what_is_refused_can_be_corrected_with_the_same_ticket(house: House, client: Client):
    await client.post_lead("taken@example.com", SMALL)
    look = kept.traces(house.deployment, house.inbox)
    ticket = await sent(house, client, SMALL)
    before = look()
    refused(await claim(client, "no address", ticket), 422, "invalid-fields")
    refused(await claim(client, "taken@example.com", ticket), 400, "duplicate-email")
    assert look()[:3] == before[:3]
    assert (await claim(client, "free@example.com", ticket)).status == 201


@pytest.mark.parametrize(
    ("body", "filename", "status", "problem"),
    [
        (exe(), "cv.pdf", 415, "unsupported-resume"),
        (SMALL, "cv.docx", 415, "unsupported-resume"),
        (docx(200_000)[:-1], "cv.docx", 415, "unsupported-resume"),
    ],
)
async def test_a_resume_is_judged_by_its_content_as_a_forms_is(
    house: House, client: Client, body, filename, status, problem
):
    look = kept.traces(house.deployment, house.inbox)
    ticket = await sent(house, client, body, filename)
    before = look()
    answer = await claim(client, "judged@example.com", ticket)
    refused(answer, status, problem)
    assert answer.json == (await client.post_lead("judged@example.com", body, filename=filename)).json
    assert look()[:3] == before[:3]


@pytest.mark.parametrize(
    ("filename", "size_bytes", "status", "problem"),
    [
        ("cv.pdf", 32 * MIB + 1, 413, "body-too-large"),
        ("cv.pdf", 0, 422, "invalid-fields"),
        ("cv.pdf", -1, 422, "invalid-fields"),
        ("cv.pdf", "1000", 422, "invalid-fields"),
        ("cv.pdf", 1.5, 422, "invalid-fields"),
        ("cv.pdf", True, 422, "invalid-fields"),
        ("cv.pdf", None, 422, "invalid-fields"),
        ("cv.exe", 1000, 415, "unsupported-resume"),
        ("cv", 1000, 415, "unsupported-resume"),
        ("../../.pdf", 1000, 415, "unsupported-resume"),
        ("", 1000, 422, "invalid-fields"),
        (7, 1000, 422, "invalid-fields"),
        ("\ud800.pdf", 1000, 422, "invalid-fields"),
    ],
)
async def test_no_ticket_is_made_for_what_would_not_be_taken(client: Client, filename, size_bytes, status, problem):
    refused(await wanted(client, size_bytes, filename), status, problem)


@pytest.mark.parametrize(
    "filename", ["../" * 2000 + "etc/cv.pdf", "a" * 50_000 + ".pdf", "%2e%2e%2fcv.pdf", "\u202ecv.pdf"]
)
async def test_an_odd_file_name_is_cleaned_as_a_forms_is(house: House, client: Client, filename: str):
    ticket = await sent(house, client, SMALL, filename)
    number = abs(hash(filename))
    lead = await claim(client, f"odd-{number}@example.com", ticket)
    assert lead.status == 201
    by_form = await client.post_lead(f"odd-form-{number}@example.com", SMALL, filename=filename[-1000:])
    assert lead.json["resume"]["filename"] == by_form.json["resume"]["filename"]


@pytest.mark.parametrize(
    ("body", "status", "problem", "fields"),
    [
        (b"{", 400, "malformed-request", set()),
        (b"[]", 400, "malformed-request", set()),
        (b"\xff", 400, "malformed-request", set()),
        (b"[" * 60_000, 400, "malformed-request", set()),
        (b'{"email": "a@example.com", "email": "b@example.com"}', 400, "malformed-request", set()),
        (b"{}", 422, "invalid-fields", {"first_name", "last_name", "email", "ticket"}),
        (b'{"first_name": 1, "ticket": ["x"], "state": "x"}', 422, "invalid-fields", {"first_name", "ticket", "state"}),
        (b'{"first_name": "\\ud800", "ticket": "x"}', 422, "invalid-fields", {"first_name", "ticket"}),
        (b'{"first_name": "' + b"x" * 70_000 + b'"}', 413, "body-too-large", set()),
    ],
)
async def test_json_that_is_no_lead_is_refused_naming_every_field(client: Client, body, status, problem, fields):
    json_type = {"Content-Type": "application/json; charset=utf-8"}
    answer = await client.call("POST", "/leads", data=body, headers=json_type)
    refused(answer, status, problem)
    assert fields <= {error["field"] for error in answer.json.get("errors", [])}


async def test_a_ticket_that_is_none_makes_no_lead(house: House, client: Client):
    secret = house.deployment.environment["LEADS_SERVICE_SECRET"]
    ticket = await sent(house, client, SMALL)
    blob_id = Tickets(secret).read(ticket).blob_id
    other = Tickets(secret[::-1]).issue(blob_id, filename="cv.pdf", size_bytes=len(SMALL))
    async with Client(house.deployment.api_url) as staff:
        await staff.login(ADMIN, PASSWORD)
        for bad in ("", "x", other, staff.token, expired_twin(house, ticket), f"{ticket}x"):
            answer = await claim(client, "no-ticket@example.com", bad)
            refused(answer, 422, "invalid-fields")
            assert [error["field"] for error in answer.json["errors"]] == ["ticket"]
        # Nor is a ticket a sign-in.
        staff.token = ticket
        assert (await staff.call("GET", "/leads")).status == 401
    shorter = Tickets(secret).issue(blob_id, filename="cv.pdf", size_bytes=len(SMALL) - 1)
    refused(await claim(client, "no-ticket@example.com", shorter), 409, "upload-unfinished")
    assert kept.lead_rows(house.deployment, "no-ticket@example.com") == 0
    assert (await claim(client, "a-ticket@example.com", ticket)).status == 201


async def test_while_the_storage_is_away_a_lead_is_put_off_and_not_lost(house: House, client: Client):
    ticket = await sent(house, client, SMALL)
    house.deployment.kill("storage")
    refused(await claim(client, "away@example.com", ticket), 503, "unavailable")
    await house.deployment.restart("storage")
    assert (await claim(client, "away@example.com", ticket)).status == 201


async def test_a_sender_that_leaves_with_questions_open_is_no_error_of_ours(house: House, client: Client):
    """Its requests came one behind the other, and it went away before they were answered."""
    offer = await a_ticket(client, SMALL)
    path = "/uploads/" + offer["upload_url"].rpartition("/")[2]
    seen = len(house.deployment.log("storage"))
    async with sender(house, offer) as upload:
        for _ in range(20):
            async with raw_http.connection(house.deployment.ports["storage"]) as (_, writer):
                writer.write(raw_http.head("HEAD", path, upload.headers) * 3)
        assert (await upload.ask()).status == 200
    while sum(line["event"] == "request" for line in house.deployment.log("storage")[seen:]) < 21:
        await asyncio.sleep(0.05)
    assert not [line for line in house.deployment.log("storage")[seen:] if line["level"] == "error"]


async def test_half_an_upload_is_swept_once_its_ticket_has_expired(house: House, client: Client):
    halves = []
    for _ in range(2):
        offer = await a_ticket(client, SMALL)
        async with sender(house, offer) as upload:
            await upload.send(SMALL[:1000], 0)
        halves.append(offer["upload_url"].rpartition("/")[2])
    house.deployment.kill("storage")
    incoming = house.deployment.resumes / ".incoming"
    (late,) = incoming.glob(f"{halves[0]}.*")
    late.rename(incoming / f"{halves[0]}.{int(time.time()) - LEEWAY_SECONDS - 3600}")
    await house.deployment.restart("storage")
    while any(incoming.glob(f"{halves[0]}.*")):
        await asyncio.sleep(0.05)
    assert len(list(incoming.glob(f"{halves[1]}.*"))) == 1
    assert not kept.blobs(house.deployment) & set(halves)


@pytest.mark.long
async def test_a_resume_without_a_lead_stays_while_its_ticket_is_good_and_goes_then(house: House, client: Client):
    """Far beyond the grace that is set, which is for those whose api died, and then no further than it must."""
    for number in range(2):  # beside fewer leads than orphans, none would be swept: leads might be missing
        await client.post_lead(f"beside-{number}@example.com", SMALL)
    before = kept.blobs(house.deployment)
    ticket, old = await sent(house, client, SMALL), await sent(house, client, SMALL)
    new = kept.blobs(house.deployment) - before
    blob_id = Tickets(house.deployment.environment["LEADS_SERVICE_SECRET"]).read(old).blob_id
    os.utime(house.deployment.resumes / blob_id, 2 * (datetime.now(UTC).timestamp() - UNCLAIMED_SECONDS - 1,))
    deadline = time.monotonic() + 100  # it must be watched for a minute as well
    while blob_id in kept.blobs(house.deployment):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    assert kept.blobs(house.deployment) & new == new - {blob_id}
    refused(await claim(client, "too-late@example.com", old), 409, "upload-unfinished")
    assert (await claim(client, "in-time@example.com", ticket)).status == 201


async def test_where_no_setting_offers_it_nobody_gets_a_ticket_and_json_is_no_lead(tmp_path):
    async with embedded(tmp_path) as house, Client(house.deployment.api_url) as client:
        refused(await wanted(client, 1000), 404, "not-found")
        secret = house.deployment.environment["LEADS_SERVICE_SECRET"]
        blob_id = "01a20fa3-8030-7b11-9c5e-0d1f6a3e7c42"
        ticket = Tickets(secret).issue(blob_id, filename="cv.pdf", size_bytes=len(SMALL))
        async with Sender(f"{house.deployment.url('storage')}/uploads/{blob_id}", ticket) as upload:
            assert (await upload.send(SMALL, 0)).status == 404
        refused(await claim(client, "nobody@example.com", ticket), 415, "unsupported-media-type")


async def test_the_commands_of_the_docs_send_a_resume(tmp_path):
    if shutil.which("curl") is None:
        cannot_run("curl is not installed")
    (commands,) = re.findall(r"```sh\nAPI=.*?\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    (tmp_path / "portfolio.pdf").write_bytes(SMALL)
    deployment = Deployment(tmp_path)
    deployment.environment["LEADS_STORAGE_PUBLIC_URL"] = deployment.url("storage")
    try:
        await deployment.start()
        script = f"API={deployment.api_url} FILE=portfolio.pdf\n{commands}"
        shell = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", script, cwd=tmp_path, stdout=PIPE, stderr=STDOUT
        )
        said = (await shell.communicate())[0].decode()
        assert shell.returncode == 0, said
        assert "204 No Content" in said
        assert "201 Created" in said
        assert hashlib.sha256(SMALL).hexdigest() in said
    finally:
        deployment.end()


async def test_tickets_and_leads_share_one_limit(tmp_path):
    settings = {"LEADS_STORAGE_PUBLIC_URL": PUBLIC_URL, "LEADS_INTAKE_RATE": "3/hour"}
    async with embedded(tmp_path, settings) as house, Client(house.deployment.api_url) as client:
        ticket = await sent(house, client, SMALL)
        assert (await claim(client, "within@example.com", ticket)).status == 201
        await a_ticket(client, SMALL)
        refused(await wanted(client, 1000), 429, "rate-limited")
        refused(await claim(client, "beyond@example.com", ticket), 429, "rate-limited")
