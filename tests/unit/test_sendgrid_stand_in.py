"""The stand-in refuses what SendGrid refuses, so that a test against it means something."""

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.harness.sendgrid import SendGridStandIn
from tests.harness.sendgrid_rules import faults

KEY = {"Authorization": "Bearer SG.id.secret"}


def a_request(**changes: Any) -> dict[str, Any]:
    given = {
        "personalizations": [{"to": [{"email": "ann@example.org", "name": "Ann"}]}],
        "from": {"email": "leads@example.com"},
        "subject": "Thank you",
        "content": [{"type": "text/plain", "value": "Hello"}, {"type": "text/html", "value": "<p>Hello</p>"}],
        "custom_args": {"email_id": "e-1"},
        "categories": ["prospect"],
    }
    return {key: value for key, value in {**given, **changes}.items() if value is not None}


def to(*addresses: str, **more: Any) -> list[dict[str, Any]]:
    return [{"to": [{"email": address} for address in addresses], **more}]


@pytest.fixture
async def sendgrid() -> AsyncIterator[SendGridStandIn]:
    async with SendGridStandIn() as stand_in:
        yield stand_in


@pytest.fixture
async def http(sendgrid: SendGridStandIn) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(sendgrid.base_url, timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


async def test_what_is_in_order_is_accepted_with_an_id_and_limits(sendgrid, http):
    async with http.post("/v3/mail/send", json=a_request(), headers=KEY) as response:
        assert response.status == 202
        assert await response.read() == b""
        assert response.headers["X-Message-Id"] == sendgrid.received[0].message_id
        assert {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"} <= response.headers.keys()


async def test_in_sandbox_mode_what_is_in_order_is_checked_and_not_sent(sendgrid, http):
    sandboxed = a_request(mail_settings={"sandbox_mode": {"enable": True}})
    async with http.post("/v3/mail/send", json=sandboxed, headers=KEY) as response:
        assert response.status == 200
    assert (sendgrid.received, sendgrid.sandboxed) == ([], 1)


@pytest.mark.parametrize("mode", [{}, {"enable": "true"}, {"enable": None}, True])
def test_sandbox_mode_is_a_boolean(mode):
    (fault,) = faults(a_request(mail_settings={"sandbox_mode": mode}))
    assert fault.message == "The sandbox mode enable param should be a boolean value."


@pytest.mark.parametrize("key", [None, "Bearer ", "Bearer SG.", "Bearer secret", "Basic SG.a.b", "Bearer SG.a b"])
async def test_without_a_key_of_its_shape_nobody_is_served(sendgrid, http, key):
    async with http.post("/v3/mail/send", json=a_request(), headers={"Authorization": key} if key else {}) as response:
        assert response.status == 401
        said = await response.json()
    message = "The provided authorization grant is invalid, expired, or revoked"
    assert said == {"errors": [{"message": message, "field": None, "help": None}]}
    assert sendgrid.received == []


async def test_only_json_is_read(http):
    async with http.post("/v3/mail/send", data=b"{}", headers={**KEY, "Content-Type": "text/plain"}) as response:
        assert response.status == 415
    async with http.post("/v3/mail/send", data=b"{", headers={**KEY, "Content-Type": "application/json"}) as response:
        assert response.status == 400


async def test_more_than_thirty_megabytes_are_too_large(sendgrid, http):
    request = json.dumps(a_request(content=[{"type": "text/plain", "value": "x" * (30 * 1024 * 1024)}]))
    headers = {**KEY, "Content-Type": "application/json"}
    async with http.post("/v3/mail/send", data=io.BytesIO(request.encode()), headers=headers) as response:
        assert response.status == 413
    assert sendgrid.received == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"personalizations": None}, "personalizations"),
        ({"personalizations": []}, "personalizations"),
        ({"personalizations": to("a@b.test") * 1001}, "personalizations"),
        ({"personalizations": to(*(f"a{n}@b.test" for n in range(1001)))}, "personalizations"),
        ({"personalizations": [{}]}, "personalizations.0.to"),
        ({"personalizations": [{"to": []}]}, "personalizations.0.to"),
        ({"personalizations": to("not an address")}, "personalizations.0.to.0.email"),
        ({"personalizations": to("a@localhost")}, "personalizations.0.to.0.email"),
        ({"personalizations": to("用户@b.test")}, "personalizations.0.to.0.email"),
        ({"personalizations": to("a@b.test\n")}, "personalizations.0.to.0.email"),
        (
            {"personalizations": [{"to": [{"email": "a@b.test", "name": "A\r\nBcc: x"}]}]},
            "personalizations.0.to.0.name",
        ),
        ({"personalizations": to("a@b.test", "A@b.test")}, "personalizations.0"),
        ({"personalizations": to("a@b.test", cc=[{"email": "a@b.test"}])}, "personalizations.0"),
        ({"personalizations": to("a@b.test", subject="x\ny")}, "personalizations.0.subject"),
        ({"from": None}, "from"),
        ({"from": {"name": "Leads"}}, "from.email"),
        ({"reply_to": {"email": "nobody"}}, "reply_to.email"),
        ({"subject": None}, "subject"),
        ({"subject": ""}, "subject"),
        ({"subject": "Hi\r\nBcc: x@y.test"}, "subject"),
        ({"content": None}, "content"),
        ({"content": []}, "content"),
        ({"content": [{"type": "text/plain", "value": ""}]}, "content.0.value"),
        ({"content": [{"type": "text/plain", "value": None}]}, "content.0.value"),
        ({"content": [{"type": "text/plain; charset=x", "value": "x"}]}, "content.0.type"),
        ({"content": [{"type": "text/html", "value": "x"}, {"type": "text/plain", "value": "x"}]}, "content"),
        ({"content": [{"type": "text/plain", "value": "x"}] * 2}, "content"),
        ({"custom_args": "e-1"}, "custom_args"),
        ({"custom_args": {"n": 1}}, "custom_args"),
        ({"custom_args": {"n": "x" * 10_000}}, "custom_args"),
        ({"categories": [str(n) for n in range(11)]}, "categories"),
        ({"categories": ["a", "a"]}, "categories"),
        ({"categories": ["x" * 256]}, "categories"),
        ({"headers": {"Subject": "x"}}, "headers"),
        ({"headers": {"X-Leads": "a\r\nBcc: x"}}, "headers"),
        ({"priority": "high"}, None),
    ],
)
def test_a_fault_is_named_by_its_field(changes, field):
    (fault,) = faults(a_request(**changes))
    assert fault.field == field
    assert fault.message


@pytest.mark.parametrize(
    "document", [[], "x", None, 7, {}, {"personalizations": "x", "content": ["x"], "from": "x", "headers": []}]
)
def test_nonsense_is_refused_and_breaks_nothing(document):
    assert faults(document)


@pytest.mark.parametrize(
    "changes",
    [
        {"personalizations": to("a@b.test", "c@b.test") * 500},
        {"subject": None, "personalizations": to("a@b.test", subject="x")},
        {"content": [{"type": "text/html", "value": "x"}]},
        {"custom_args": {"n": "x" * 9_990}},
        {"categories": [str(n) for n in range(10)]},
    ],
)
def test_what_is_just_within_the_limits_is_not_refused(changes):
    assert faults(a_request(**changes)) == []


async def test_a_refusal_has_sendgrids_shape(http):
    async with http.post("/v3/mail/send", json=a_request(subject=""), headers=KEY) as response:
        assert response.status == 400
        (error,) = (await response.json())["errors"]
    assert error.keys() == {"message", "field", "help"}
    assert error["field"] == "subject"


async def test_it_misbehaves_as_often_as_it_is_told_and_then_no_more(sendgrid, http):
    wish = {"behaviour": "429", "times": 2, "seconds": 30}
    async with http.post("/_control", json=wish) as response:
        assert response.status == 204
    statuses = []
    for _ in range(3):
        async with http.post("/v3/mail/send", json=a_request(), headers=KEY) as response:
            statuses.append(response.status)
    assert statuses == [429, 429, 202]
    assert sendgrid.requests == 3


async def test_it_misbehaves_until_it_is_told_otherwise(sendgrid, http):
    sendgrid.behave("503")
    for _ in range(3):
        async with http.post("/v3/mail/send", json=a_request(), headers=KEY) as response:
            assert response.status == 503
    sendgrid.behave("accept")
    async with http.post("/v3/mail/send", json=a_request(), headers=KEY) as response:
        assert response.status == 202


@pytest.mark.parametrize("wish", [{"behaviour": "sing"}, {}])
async def test_an_unknown_behaviour_is_refused(http, wish):
    async with http.post("/_control", json=wish) as response:
        assert response.status == 400


@pytest.mark.parametrize(("behaviour", "accepted"), [("drop_before", 0), ("drop_after_accept", 1), ("garbage", 0)])
async def test_a_dropped_request_has_no_answer(sendgrid, http, behaviour, accepted):
    sendgrid.behave(behaviour)
    with pytest.raises(aiohttp.ClientError):
        await http.post("/v3/mail/send", json=a_request(), headers=KEY)
    assert len(sendgrid.received) == accepted


async def test_hanging_requests_do_not_keep_it_from_stopping(sendgrid, http):
    sendgrid.behave("hang")
    request = asyncio.create_task(http.post("/v3/mail/send", json=a_request(), headers=KEY))
    while not sendgrid.requests:
        await asyncio.sleep(0.01)
    assert not request.done()
    await asyncio.wait_for(sendgrid.stop(), 3)
    with pytest.raises(aiohttp.ClientError):
        await request


async def test_a_duplicate_is_counted(sendgrid, http):
    for email_id in ("e-1", "e-2", "e-1"):
        async with http.post("/v3/mail/send", json=a_request(custom_args={"email_id": email_id}), headers=KEY):
            pass
    async with http.get("/_received") as response:
        told = await response.json()
    assert told["accepted_by_email_id"] == dict(sendgrid.accepted_by_email_id) == {"e-1": 2, "e-2": 1}
    assert [mail["to"] for mail in told["received"]] == [["ann@example.org"]] * 3


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[[], Any]]:
    """Starts the stand-in as a process over one log; gives the process and its URL."""
    started: list[asyncio.subprocess.Process] = []

    async def run() -> tuple[asyncio.subprocess.Process, str]:
        command = [sys.executable, "-m", "tests.harness.sendgrid", "--port", "0", "--log", str(tmp_path / "log.jsonl")]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        started.append(process)
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        return process, line.decode().split()[-1]

    yield run
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_as_a_process_its_log_survives_a_kill(start, tmp_path):
    process, url = await start()
    async with (
        aiohttp.ClientSession(url) as http,
        http.post("/v3/mail/send", json=a_request(), headers=KEY) as response,
    ):
        assert response.status == 202
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert json.loads((tmp_path / "log.jsonl").read_text())["email_id"] == "e-1"

    process, url = await start()
    async with aiohttp.ClientSession(url) as http, http.get("/_received") as response:
        assert (await response.json())["accepted_by_email_id"] == {"e-1": 1}
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 5) == 0
