"""What the running api answers is what docs/openapi.json says: status, media type, headers, body, and the examples."""

import json
from collections.abc import Mapping
from functools import partial
from io import BytesIO
from typing import Any

import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator, FormatChecker
from yarl import URL

from contracts.documents import OPENAPI
from tests.harness.client import Answer, Client
from tests.harness.deployment import ADMIN, PASSWORD, Deployment, deployed
from tests.harness.files import MIB, exe, pdf
from tests.harness.tus import Sender

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOCUMENT = json.loads(OPENAPI.read_text())
RESUME = pdf(3000)
SUBMIT, TICKET, SIGN_IN, LIST = "POST /leads", "POST /leads/uploads", "POST /leads/login", "GET /leads"
READ, MOVE, DOWNLOAD = "GET /leads/{lead_id}", "PATCH /leads/{lead_id}", "GET /leads/{lead_id}/resume"
SAID_OF_ALL = {
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "server",
    "transfer-encoding",
} | {
    "content-security-policy",
    "x-content-type-options",
}
"""Headers that no caller needs to know of: HTTP's own, and those for browsers."""


def look_up(part: dict[str, Any]) -> dict[str, Any]:
    """The part itself, or what it refers to."""
    found = DOCUMENT
    for name in part.get("$ref", "#").split("/")[1:]:
        found = found[name]
    return found if "$ref" in part else part


def check_value(schema: dict[str, Any], value: Any) -> None:
    whole = {**schema, "components": DOCUMENT["components"]}
    Draft202012Validator(whole, format_checker=FormatChecker()).validate(value)


def check_headers(said: Mapping[str, dict[str, Any]], sent: Mapping[str, str]) -> None:
    documented = {name.lower(): look_up(part) for name, part in said.items()}
    present = {name.lower(): value for name, value in sent.items()}
    assert present.keys() - SAID_OF_ALL <= documented.keys(), "a header that the document does not tell of"
    assert {name for name, part in documented.items() if part.get("required")} <= present.keys()
    for name in documented.keys() & present.keys():
        schema = documented[name]["schema"]
        check_value(schema, int(present[name]) if schema["type"] == "integer" else present[name])


def check(operation: str, answer: Answer, status: int, problem: str = "") -> None:
    """Hold the answer to what the document says of `operation` (as `GET /leads/{lead_id}`) and that status."""
    assert answer.status == status, answer.body
    method, _, path = operation.partition(" ")
    said = DOCUMENT["paths"][path][method.lower()]["responses"][str(status)]
    check_headers(said["headers"], answer.headers)
    media = said["content"][answer.headers["Content-Type"]]
    if answer.json is not None:
        check_value(media["schema"], answer.json)
    if problem:
        assert answer.json["type"] == f"urn:leads:problem:{problem}"
        assert problem in media["examples"]


def check_shown(operation: str, answer: Answer, problem: str) -> None:
    """The same, and the answer is word by word the document's example."""
    shown = DOCUMENT["components"]["examples"][problem]["value"]
    check(operation, answer, shown["status"], problem)
    assert answer.json == shown


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployment(tmp_path_factory):
    async with deployed(tmp_path_factory.mktemp("leads"), {"LEADS_LOGIN_RATE": "4/hour"}) as deployment:
        yield deployment


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(deployment: Deployment):
    async with Client(deployment.api_url) as client:
        assert (await client.login(ADMIN, PASSWORD)).status == 200
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lead(client: Client):
    return (await client.post_lead("first@example.com", RESUME)).json


async def test_the_served_document_is_the_published_one(client: Client):
    assert (await client.call("GET", "/openapi.json")).json == DOCUMENT


async def test_answers_to_a_lead_are_as_documented(client: Client):
    key = {"Idempotency-Key": "a-key", "X-Correlation-ID": "a-name"}
    send = partial(check, SUBMIT)
    send(await client.post_lead("ann@example.com", RESUME, headers=key), 201)
    again = await client.post_lead("ann@example.com", RESUME, headers=key)
    send(again, 201)
    assert again.headers["Idempotency-Replayed"] == "true"
    shown = partial(check_shown, SUBMIT)
    shown(await client.post_lead("bob@example.com", RESUME, headers=key), "idempotency-key-reused")
    shown(await client.post_lead("ann@example.com", RESUME), "duplicate-email")
    shown(await client.post_lead("no address", RESUME), "invalid-fields")
    shown(await client.post_lead("bob@example.com", exe()), "unsupported-resume")
    shown(await client.call("POST", "/leads", json={}), "unsupported-media-type")
    bare = {"Content-Type": "multipart/form-data"}
    shown(await client.call("POST", "/leads", data=b"-", headers=bare), "malformed-multipart")
    shown(await client.post_lead("bob@example.com", BytesIO(pdf(6 * MIB))), "body-too-large")
    many = {f"X-{number}": "x" for number in range(101)}
    shown(await client.post_lead("bob@example.com", RESUME, headers=many), "headers-too-large")


@pytest.mark.long
async def test_answers_to_a_lead_by_ticket_are_as_documented(deployment: Deployment, client: Client):
    async def wanted(filename: str = "cv.pdf", size_bytes: int = len(RESUME)) -> Answer:
        return await client.call("POST", "/leads/uploads", json={"filename": filename, "size_bytes": size_bytes})

    check(TICKET, await wanted(), 404, "not-found")  # as it is by default
    opened = {"LEADS_STORAGE_PUBLIC_URL": "https://uploads.example.com"}
    for room in ("api", "storage"):
        await deployment.stop(room)
        deployment.launch(room, settings=opened)
        await deployment.ready(room)
    offer = await wanted()
    check(TICKET, offer, 201)
    check_shown(TICKET, await wanted(size_bytes=6 * MIB), "body-too-large")
    check(TICKET, await wanted("cv.exe"), 415, "unsupported-resume")
    check(TICKET, await wanted(size_bytes=0), 422, "invalid-fields")

    def sending(**changed: str):
        lead = {"first_name": "Ann", "last_name": "Lee", "email": "t@example.com", "ticket": offer.json["ticket"]}
        return client.call("POST", "/leads", json={**lead, **changed})

    check_shown(SUBMIT, await sending(), "upload-unfinished")
    path = URL(offer.json["upload_url"]).path
    async with Sender(deployment.url("storage") + path, offer.json["ticket"]) as sender:
        assert (await sender.send(RESUME, 0)).status == 204
    check(SUBMIT, await sending(), 201)
    check_shown(SUBMIT, await sending(email="u@example.com"), "ticket-used")
    check(SUBMIT, await sending(ticket="x"), 422, "invalid-fields")
    check(SUBMIT, await client.call("POST", "/leads", data="{", headers={"Content-Type": "application/json"}), 400)


async def test_answers_to_a_sign_in_are_as_documented(client: Client):
    def signing_in(**said: str):
        return client.call("POST", "/leads/login", **said)

    check(SIGN_IN, await signing_in(data={"username": ADMIN, "password": PASSWORD}), 200)
    check(SIGN_IN, await signing_in(json={"username": ADMIN, "password": "wrong"}), 401, "unauthenticated")
    check(SIGN_IN, await signing_in(data={"username": ADMIN}), 422, "invalid-fields")
    check(SIGN_IN, await signing_in(data=b"-"), 415, "unsupported-media-type")
    check(SIGN_IN, await signing_in(data=b"-" * 70_000), 413, "body-too-large")
    answers = [await signing_in(json={"username": "x", "password": "y"}) for _ in range(4)]
    check(SIGN_IN, answers[-1], 429, "rate-limited")
    check("GET /.well-known/jwks.json", await client.call("GET", "/.well-known/jwks.json"), 200)


async def test_answers_to_reading_and_moving_are_as_documented(client: Client, lead: dict[str, Any]):
    await client.post_lead("second@example.com", RESUME)
    page = await client.call("GET", "/leads?limit=1&total=true")
    check(LIST, page, 200)
    assert "Link" in page.headers
    check(LIST, await client.call("GET", "/leads?sort=age"), 422, "invalid-fields")
    check_shown(LIST, await client.call("GET", "/leads", headers={"Authorization": "Bearer x"}), "unauthenticated")

    there, nowhere = f"/leads/{lead['id']}", "/leads/nobody"
    check(READ, await client.call("GET", there), 200)
    check_shown(READ, await client.call("GET", nowhere), "not-found")

    def moving(path: str, state: str, **headers: str):
        return client.call("PATCH", path, json={"state": state}, headers=headers)

    check(MOVE, await moving(there, "REACHED_OUT"), 200)
    check_shown(MOVE, await moving(there, "PENDING"), "illegal-transition")
    check_shown(MOVE, await moving(there, "PENDING", **{"If-Match": '"0"'}), "precondition-failed")
    check_shown(MOVE, await moving(nowhere, "PENDING"), "not-found")
    check(MOVE, await moving(there, "x" * 70_000), 413, "body-too-large")
    check(MOVE, await moving(there, "GONE"), 422, "invalid-fields")


async def test_answers_to_a_download_are_as_documented(client: Client, lead: dict[str, Any]):
    path = f"/leads/{lead['id']}/resume"
    check(DOWNLOAD, await client.call("GET", path), 200)
    check(DOWNLOAD, await client.call("GET", path, headers={"Range": "bytes=0-9"}), 206)
    beyond = {"Range": "bytes=9000-"}
    check_shown(DOWNLOAD, await client.call("GET", path, headers=beyond), "range-not-satisfiable")
    check_shown(DOWNLOAD, await client.call("GET", "/leads/nobody/resume"), "not-found")


async def test_what_no_operation_says_of_itself_is_the_default(client: Client):
    answer = await client.call("PUT", "/leads")
    said = DOCUMENT["paths"]["/leads"]["post"]["responses"]["default"]
    check_headers(said["headers"], answer.headers)
    assert answer.json == DOCUMENT["components"]["examples"]["method-not-allowed"]["value"]


async def test_answers_while_the_storage_is_away_are_as_documented(
    deployment: Deployment, client: Client, lead: dict[str, Any]
):
    await deployment.stop("storage")
    check_shown(SUBMIT, await client.post_lead("carl@example.com", RESUME), "unavailable")
    check_shown(DOWNLOAD, await client.call("GET", f"/leads/{lead['id']}/resume"), "unavailable")
