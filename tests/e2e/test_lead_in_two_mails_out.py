"""The main job, on each size: a lead comes in, two e-mails go out, staff find it, read it and mark it reached out."""

import asyncio
import json
import re
from datetime import datetime, timedelta, timezone
from hashlib import sha256

import aiohttp
import pytest
import pytest_asyncio

from tests.harness.client import Answer, Client
from tests.harness.deployment import ADMIN, PASSWORD, ROOMS
from tests.harness.files import docx, pdf
from tests.harness.inbox import wait_for
from tests.harness.kept import rows
from tests.harness.sizes import (
    AT_SCALE,
    EMBEDDED,
    ON_MARIADB,
    PAST_ONE_MACHINE,
    STAFF,
    House,
    house_of,
    sizes,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

LAST_NAMES = ("Ångström", "Lee", "Lee", "Lee", "O'Brien", "de la Cruz", "李", "zu Guttenberg")
MANY = 25
PROBLEM = "application/problem+json"


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=sizes(EMBEDDED, AT_SCALE, PAST_ONE_MACHINE, ON_MARIADB)
)
async def house(request):
    async with house_of(request) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def anyone(house: House):
    async with Client(house.deployment.api_url) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def staff(house: House):
    async with Client(house.deployment.api_url) as client:
        assert (await client.login(ADMIN, PASSWORD)).status == 200
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def many(house: House) -> set[str]:
    """The ids of 25 leads whose e-mail addresses end in `@many.example`; names repeat, so that ties must be broken."""
    async with Client(house.deployment.api_url) as client:
        answers = await asyncio.gather(
            *(
                client.post_lead(
                    f"{'Zz' if number % 2 else 'aa'}{number}@many.example",
                    pdf(3000, seed=number),
                    last_name=LAST_NAMES[number % len(LAST_NAMES)],
                )
                for number in range(MANY)
            )
        )
    assert {answer.status for answer in answers} == {201}
    return {answer.json["id"] for answer in answers}


async def post_as_browsers_do(anyone: Client, email: str, resume: bytes, filename: str) -> Answer:
    """With the file's name as it is: aiohttp by itself would send it percent-encoded."""
    form = aiohttp.FormData(quote_fields=False)
    for name, value in {"first_name": " Ada ", "last_name": "Lee", "email": email}.items():
        form.add_field(name, value)
    form.add_field("resume", resume, filename=filename)
    return await anyone.call("POST", "/leads", data=form)


async def posted(anyone: Client, email: str, resume: bytes | None = None, **more) -> dict:
    answer = await anyone.post_lead(email, resume or pdf(3000), **more)
    assert answer.status == 201, answer.body
    return answer.json


def is_problem(answer: Answer, status: int, type_: str) -> None:
    assert (answer.status, answer.headers["Content-Type"]) == (status, PROBLEM)
    assert (answer.json["type"], answer.json["status"]) == (f"urn:leads:problem:{type_}", status)


async def test_a_lead_is_answered_with_201_its_location_and_what_was_kept(anyone):
    resume = docx()
    answer = await post_as_browsers_do(anyone, "Ada@Example.com", resume, "My CV.docx")
    lead = answer.json
    assert (answer.status, answer.headers["Location"]) == (201, f"/leads/{lead['id']}")
    assert lead == {
        "id": lead["id"],
        "first_name": "Ada",
        "last_name": "Lee",
        "email": lead["email"],
        "resume_path": lead["resume_path"],
        "resume": {
            "filename": "My CV.docx",
            "content_type": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            "size": len(resume),
            "sha256": sha256(resume).hexdigest(),
        },
        "state": "PENDING",
        "created_at": lead["created_at"],
    }
    assert lead["email"].lower() == "ada@example.com"
    assert re.fullmatch("[0-9a-f-]{36}", lead["id"])
    assert datetime.fromisoformat(lead["created_at"]).tzinfo is not None


async def test_two_mails_go_out_one_to_the_prospect_and_one_to_the_staff_each_as_text_and_html(house, anyone):
    lead = await posted(anyone, "grace@example.com", first_name="Grace", last_name="<b>Hopper</b>")
    mails = {mail.kind: mail for mail in await wait_for(house.inbox, 2, lead_id=lead["id"])}
    assert mails.keys() == {"prospect", "staff"}
    assert mails["prospect"].to == ("grace@example.com",)
    assert mails["staff"].to == (STAFF,)
    assert "grace@example.com" in mails["staff"].text
    assert lead["id"] in mails["staff"].html
    for mail in mails.values():
        assert mail.subject
        assert mail.text.strip()
        assert "<html" in mail.html
        assert "<b>Hopper</b>" not in mail.html
    await asyncio.sleep(0.3)
    assert len(await wait_for(house.inbox, 2, lead_id=lead["id"])) == 2, "and no third"


async def test_the_callers_correlation_id_is_in_the_logs_of_all_rooms_and_on_the_event(house, anyone):
    correlation_id = "a-trace.of:the_caller-1"
    answer = await anyone.post_lead("trace@example.com", pdf(3000), headers={"X-Correlation-ID": correlation_id})
    assert answer.headers["X-Correlation-ID"] == correlation_id
    await wait_for(house.inbox, 2, lead_id=answer.json["id"])
    async with asyncio.timeout(20):  # the notifier says it after SendGrid has the e-mail, once it has written it down
        for room in ROOMS:
            while not any(line.get("correlation_id") == correlation_id for line in house.deployment.log(room)):
                await asyncio.sleep(0.05)
    ((body,),) = rows(house.deployment.leads_db, "SELECT body FROM outbox WHERE subject = ?", answer.json["id"])
    assert json.loads(body)["correlationid"] == correlation_id


async def test_no_log_line_names_the_address_of_a_lead(house, anyone):
    lead = await posted(anyone, "very.private@example.com")
    await wait_for(house.inbox, 2, lead_id=lead["id"])
    for room in ROOMS:
        assert "very.private" not in house.deployment.log_file(room).read_text(), room


async def test_staff_sign_in_with_a_form_or_with_json_and_nobody_else_does(anyone):
    good = {"username": ADMIN, "password": PASSWORD}
    form = await anyone.call("POST", "/leads/login", data={"grant_type": "password", **good})
    as_json = await anyone.call("POST", "/leads/login", json=good)
    for answer in (form, as_json):
        assert answer.status == 200
        assert answer.json["token_type"] == "bearer"
        assert answer.json["access_token"].count(".") == 2
        assert answer.json["expires_in"] > 0
    for wrong in ({**good, "password": "a wrong password"}, {**good, "username": "nobody@example.com"}):
        is_problem(await anyone.call("POST", "/leads/login", data=wrong), 401, "unauthenticated")


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/leads"), ("GET", "/leads/{id}"), ("PATCH", "/leads/{id}"), ("GET", "/leads/{id}/resume")],
)
async def test_nobody_sees_or_changes_leads_without_signing_in(anyone, many, method, path):
    answer = await anyone.call(method, path.format(id=min(many)), json={"state": "REACHED_OUT"})
    is_problem(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_staff_find_a_lead_by_its_address_by_words_and_by_state(anyone, staff):
    lead = await posted(anyone, "Findable.One@example.com", first_name="Zaphod", last_name="Über_100%")
    for query in (
        {"email": "findable.one@EXAMPLE.com"},
        {"q": "zaphod über_100%"},
        {"q": "FINDABLE"},
        {"q": "zaphod", "state": "PENDING", "total": "true"},
    ):
        found = await staff.call("GET", "/leads", params=query)
        assert (found.status, [one["id"] for one in found.json["items"]]) == (200, [lead["id"]]), query
    assert found.json["total"] == 1
    for nothing in ({"q": "zaphod_"}, {"q": "über%100"}, {"state": "REACHED_OUT", "q": "zaphod"}):
        assert (await staff.call("GET", "/leads", params=nothing)).json["items"] == [], nothing


async def test_an_instant_is_the_same_in_every_zone(staff, many):
    newest = (await staff.call("GET", "/leads", params={"q": "many.example", "limit": "1"})).json["items"][0]
    sent_at = datetime.fromisoformat(newest["created_at"])
    for hours in (-11, 0, 14):
        before, after = (
            (sent_at + timedelta(seconds=shift)).astimezone(timezone(timedelta(hours=hours))).isoformat()
            for shift in (-1, 1)
        )
        asked = {"q": newest["email"], "created_after": before, "created_before": after}
        assert [lead["id"] for lead in (await staff.call("GET", "/leads", params=asked)).json["items"]] == [
            newest["id"]
        ]
    answer = await staff.call("GET", "/leads", params={"created_after": "0001-01-01T00:00:00+23:59"})
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "created_after")


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "last_name", "-last_name", "email", "-email"])
async def test_pages_of_ten_walk_over_all_leads_without_a_gap_or_a_double(staff, many, sort):
    path = f"/leads?q=%40many.example&limit=10&sort={sort}"
    walked, sizes = [], []
    while path:
        page = await staff.call("GET", path)
        assert page.status == 200
        walked += page.json["items"]
        sizes.append(len(page.json["items"]))
        link = re.fullmatch(r'<(/leads\?[^>]+)>; rel="next"', page.headers.get("Link", ""))
        assert bool(link) == bool(page.json["next_cursor"])
        path = link.group(1) if link else None
    assert sizes == [10, 10, 5]
    assert {lead["id"] for lead in walked} == many
    values = [lead[sort.removeprefix("-")] for lead in walked]
    assert values == sorted(values, reverse=sort.startswith("-"))


async def test_a_lead_that_comes_while_staff_turn_pages_shifts_nothing(anyone, staff, many):
    first = await staff.call("GET", "/leads?q=many.example&limit=10&sort=-created_at")
    await posted(anyone, "later@x.many.example.org", first_name="Later")
    rest = await staff.call(
        "GET", "/leads", params={"q": "many.example", "sort": "-created_at", "cursor": first.json["next_cursor"]}
    )
    assert {lead["id"] for lead in first.json["items"] + rest.json["items"]} >= many
    assert len(first.json["items"] + rest.json["items"]) == MANY


async def test_a_lead_is_marked_reached_out_once_and_never_goes_back(anyone, staff):
    lead = await posted(anyone, "reach@example.com")
    path = f"/leads/{lead['id']}"
    read = await staff.call("GET", path)
    assert (read.status, read.json) == (200, lead)
    etag = read.headers["ETag"]

    moved = await staff.call("PATCH", path, json={"state": "REACHED_OUT"}, headers={"If-Match": etag})
    assert (moved.status, moved.json) == (200, {**lead, "state": "REACHED_OUT"})
    assert moved.headers["ETag"] != etag

    again = await staff.call("PATCH", path, json={"state": "REACHED_OUT"})
    assert (again.status, again.json) == (200, moved.json)
    is_problem(await staff.call("PATCH", path, json={"state": "PENDING"}), 409, "illegal-transition")
    stale = await staff.call("PATCH", path, json={"state": "REACHED_OUT"}, headers={"If-Match": etag})
    is_problem(stale, 412, "precondition-failed")
    for wrong in ({"state": "GONE"}, {"state": None}, {}, {"state": "REACHED_OUT", "email": "x@example.com"}):
        is_problem(await staff.call("PATCH", path, json=wrong), 422, "invalid-fields")
    is_problem(await staff.call("PATCH", f"/leads/{'0' * 8}-0000-7000-8000-{'0' * 12}", json={}), 422, "invalid-fields")
    assert (await staff.call("GET", path)).json == moved.json


async def test_of_two_who_move_a_lead_at_once_with_if_match_one_is_told_that_it_changed(anyone, staff):
    lead = await posted(anyone, "both@example.com")
    answers = await asyncio.gather(
        *(
            staff.call("PATCH", f"/leads/{lead['id']}", json={"state": "REACHED_OUT"}, headers={"If-Match": '"1"'})
            for _ in range(8)
        )
    )
    assert sorted(answer.status for answer in answers) == [200] + [412] * 7


async def test_the_resume_comes_back_byte_for_byte_whole_and_in_ranges(anyone, staff):
    resume = pdf(300_000, seed=7)
    lead = (await post_as_browsers_do(anyone, "resume@example.com", resume, "Résumé (final).pdf")).json
    path = f"/leads/{lead['id']}/resume"
    whole = await staff.call("GET", path)
    assert (whole.status, sha256(whole.body).hexdigest()) == (200, lead["resume"]["sha256"])
    assert whole.body == resume
    assert whole.headers["Content-Type"] == "application/pdf"
    assert whole.headers["Content-Disposition"].startswith("attachment")
    assert "R%C3%A9sum%C3%A9%20%28final%29.pdf" in whole.headers["Content-Disposition"]
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in whole.headers["Content-Security-Policy"]

    part = await staff.call("GET", path, headers={"Range": "bytes=1000-1999"})
    assert (part.status, part.body) == (206, resume[1000:2000])
    assert part.headers["Content-Range"] == f"bytes 1000-1999/{len(resume)}"
    tail = await staff.call("GET", path, headers={"Range": "bytes=-5"})
    assert (tail.status, tail.body) == (206, resume[-5:])
    beyond = await staff.call("GET", path, headers={"Range": f"bytes={len(resume)}-"})
    is_problem(beyond, 416, "range-not-satisfiable")
    assert beyond.headers["Content-Range"] == f"bytes */{len(resume)}"


async def test_a_second_lead_from_one_address_is_a_400_however_it_is_spelled(house, anyone):
    lead = await posted(anyone, "twice@example.com")
    is_problem(await anyone.post_lead("TWICE@Example.com", pdf(3000, seed=2)), 400, "duplicate-email")
    mails = await wait_for(house.inbox, 2, lead_id=lead["id"])
    assert len([mail for mail in house.inbox() if "twice@example.com" in mail.to]) == 1
    assert len(mails) == 2


async def test_swagger_answers_and_the_document_tells_how_to_send_a_lead_and_how_to_sign_in(anyone):
    page = await anyone.call("GET", "/docs")
    assert page.status == 200
    assert b"swagger-ui" in page.body
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert len(loaded) >= 2
    for path in loaded:
        assert path.startswith("/static"), "a page that takes a password loads nothing from elsewhere"
        assert (await anyone.call("GET", path)).status == 200
    document = (await anyone.call("GET", "/openapi.json")).json
    form, by_ticket = document["paths"]["/leads"]["post"]["requestBody"]["content"].items()
    assert form[0] == "multipart/form-data", "what people try first"
    assert form[1]["schema"]["$ref"] == "#/components/schemas/LeadForm"
    assert by_ticket[0] == "application/json"
    schema = document["components"]["schemas"]["LeadForm"]
    assert schema["properties"]["resume"]["format"] == "binary"
    assert set(schema["required"]) == {"first_name", "last_name", "email", "resume"}
    ((name, scheme),) = document["components"]["securitySchemes"].items()
    assert scheme["type"] == "oauth2"
    assert scheme["flows"]["password"]["tokenUrl"].lstrip("/") == "leads/login"
    for path, method in (("/leads", "get"), ("/leads/{lead_id}", "patch"), ("/leads/{lead_id}/resume", "get")):
        assert document["paths"][path][method]["security"] == [{name: []}], path
    assert document["paths"]["/leads"]["post"]["security"] == []
    assert "201" in document["paths"]["/leads"]["post"]["responses"]
