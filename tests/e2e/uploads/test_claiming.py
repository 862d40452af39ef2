"""One lead is made of a resume that came by ticket, judged as a form is."""

import asyncio

import pytest

from shared.tickets import TICKET_SECONDS, Tickets
from shared.tokens import LEEWAY_SECONDS
from tests.harness import kept
from tests.harness.claims import PUBLIC_URL, SMALL, a_ticket, claim, refused, sent, wanted
from tests.harness.client import Client
from tests.harness.deployment import ADMIN, PASSWORD
from tests.harness.files import MIB, docx, exe
from tests.harness.sizes import House, embedded
from tests.harness.tus import Sender

pytestmark = pytest.mark.asyncio(loop_scope="module")


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


async def test_where_no_setting_offers_it_nobody_gets_a_ticket_and_json_is_no_lead(tmp_path):
    async with embedded(tmp_path) as house, Client(house.deployment.api_url) as client:
        refused(await wanted(client, 1000), 404, "not-found")
        secret = house.deployment.environment["LEADS_SERVICE_SECRET"]
        blob_id = "01a20fa3-8030-7b11-9c5e-0d1f6a3e7c42"
        ticket = Tickets(secret).issue(blob_id, filename="cv.pdf", size_bytes=len(SMALL))
        async with Sender(f"{house.deployment.url('storage')}/uploads/{blob_id}", ticket) as upload:
            assert (await upload.send(SMALL, 0)).status == 404
        refused(await claim(client, "nobody@example.com", ticket), 415, "unsupported-media-type")


async def test_tickets_and_leads_share_one_limit(tmp_path):
    settings = {"LEADS_STORAGE_PUBLIC_URL": PUBLIC_URL, "LEADS_INTAKE_RATE": "3/hour"}
    async with embedded(tmp_path, settings) as house, Client(house.deployment.api_url) as client:
        ticket = await sent(house, client, SMALL)
        assert (await claim(client, "within@example.com", ticket)).status == 201
        await a_ticket(client, SMALL)
        refused(await wanted(client, 1000), 429, "rate-limited")
        refused(await claim(client, "beyond@example.com", ticket), 429, "rate-limited")
