"""Bad inputs, section A: methods, paths and hosts; many connections, slow ones, and many at once."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import pytest

from tests.harness import files
from tests.harness.bad_inputs import CANARY, FORM_TYPE, Ground, Row
from tests.harness.deployment import ROOT
from tests.harness.raw_http import RawAnswer, connection, form, head, read_answer

SLOW_HEADERS = 500
SLOW_BODIES = 200
DRIP_SECONDS = 1.0
GIVEN_UP_SECONDS = 16.0
"""By when each slow connection must be gone: 10 s are allowed to headers, and as much to a body that only trickles."""

UNWANTED_MIB = 64
UPLOADS = 200
UPLOAD_BYTES = 5 * 1024 * 1024

Send = Callable[[Ground], Awaitable[RawAnswer]]


def asked(method: str, target: str, *headers: tuple[str, str]) -> Send:
    """One request without a body."""
    return lambda ground: ground.ask(method, target, *headers, body=b"", bodiless=method == "HEAD")


def posted_to(target: str) -> Send:
    """A good form, sent to an address that is not the intake's."""

    async def send(ground: Ground) -> RawAnswer:
        return await ground.ask("POST", target, FORM_TYPE, body=form(ground.lead()))

    return send


async def names_all_methods(_: Ground, answers: Sequence[RawAnswer]) -> None:
    assert set(answers[0].headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert b"X-Echo" not in answers[0].body


async def no_origin_is_let_in(_: Ground, answers: Sequence[RawAnswer]) -> None:
    assert not [name for name in answers[0].headers if name.startswith("access-control")]


async def leads_nowhere_else(_: Ground, answers: Sequence[RawAnswer]) -> None:
    assert "evil" not in answers[0].headers.get("location", "")
    assert CANARY.encode() not in answers[0].body


async def slow_ones(ground: Ground) -> list[RawAnswer]:
    """Hundreds of trickling headers and bodies, half of these with a resume begun. Others are served meanwhile."""
    body = form(ground.lead(resume=files.pdf(64 * 1024)))
    start = head("POST", "/leads", [FORM_TYPE, ("Content-Length", str(len(body)))])
    slow = [_trickle(ground, b"GET /leads HTTP/1.1\r\nX: ", b"x" * 100) for _ in range(SLOW_HEADERS)]
    slow += [_trickle(ground, start + body[:n], body[n:]) for n in (0, 8192) for _ in range(SLOW_BODIES // 2)]
    slow += [_hang_on(ground, request) for request in (_HEALTHY, _UNWANTED) for _ in range(5)]
    waiting = asyncio.gather(*slow)
    await asyncio.sleep(4)
    good = [await ground.post(ground.lead()) for _ in range(5)]
    return [*good, *await waiting]


async def _trickle(ground: Ground, start: bytes, drops: bytes) -> RawAnswer:
    async with asyncio.timeout(GIVEN_UP_SECONDS), connection(ground.port) as (reader, writer):
        writer.write(start)
        answer = asyncio.create_task(read_answer(reader))
        for drop in drops:
            await asyncio.wait({answer}, timeout=DRIP_SECONDS)
            if answer.done():
                break
            writer.write(bytes([drop]))
        return await answer


async def _hang_on(ground: Ground, request: bytes) -> RawAnswer:
    """A connection that was answered once, and is kept busy with next to nothing. It ends all the same."""
    async with asyncio.timeout(GIVEN_UP_SECONDS), connection(ground.port) as (reader, writer):
        writer.write(request)
        answered = await read_answer(reader)
        assert answered.status in (200, 415)
        rest = asyncio.create_task(reader.read())
        while not rest.done():
            await asyncio.wait({rest}, timeout=DRIP_SECONDS)
            if not rest.done():
                writer.write(b"\r\n")
        return RawAnswer(408, {"content-length": "0"})


async def unwanted_body(ground: Ground) -> RawAnswer:
    """Answered before its body, of which only so much is still let in."""
    async with asyncio.timeout(GIVEN_UP_SECONDS), connection(ground.port) as (reader, writer):
        writer.write(head("PUT", "/leads", [("Content-Length", str(2**40))]))
        answer = await read_answer(reader)
        with suppress(OSError):
            for _ in range(UNWANTED_MIB):
                writer.write(bytes(1024 * 1024))
                await writer.drain()
            pytest.fail(f"{UNWANTED_MIB} MiB were let in that nobody wanted")
        return answer


async def good_ones_were_kept(_: Ground, answers: Sequence[RawAnswer]) -> None:
    assert [one.status for one in answers[:5]] == [201] * 5
    assert {one.status for one in answers[5:]} == {408}


async def uploads_at_once(ground: Ground) -> list[RawAnswer]:
    """From a process of its own: this one could not send so much and look at a clock as well."""
    ground.expect_resume(files.pdf(UPLOAD_BYTES))
    command = [sys.executable, "-m", "tests.harness.flood", str(ground.port), str(UPLOADS), str(UPLOAD_BYTES)]
    flood = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    printed, _ = await flood.communicate()
    return [RawAnswer(one["status"], one["headers"], one["body"].encode()) for one in json.loads(printed)]


async def most_were_kept(_: Ground, answers: Sequence[RawAnswer]) -> None:
    refused = [one for one in answers if one.status == 503]
    assert all("retry-after" in one.headers for one in refused)
    assert len(refused) < len(answers) / 2


_UNAUTHENTICATED, _NOT_FOUND, _METHOD, _MALFORMED = (
    "unauthenticated",
    "not-found",
    "method-not-allowed",
    "malformed-request",
)
_ODD_PATHS = {404, 400}
_ODD = {_NOT_FOUND, _MALFORMED}
_EVIL = ("Origin", "https://evil.test")
_PREFLIGHT = asked("OPTIONS", "/leads", _EVIL, ("Access-Control-Request-Method", "POST"))

_OLD_CHUNKED = b"POST /leads HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"

DOORS = [
    *(
        Row(21, method, asked(method, "/leads", ("X-Echo", "me")), {405}, {_METHOD}, also=names_all_methods)
        for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS")
    ),
    Row(21, "GET", asked("GET", "/leads"), {401}, {_UNAUTHENTICATED}),
    Row(21, "HEAD", asked("HEAD", "/leads"), {401}, {_UNAUTHENTICATED}),
    Row(21, "HEAD-of-what-anybody-may-read", asked("HEAD", "/healthz"), {200}),
    *(
        Row(21, f"method-{method}", asked(method, "/leads"), {400, 405}, {_MALFORMED, _METHOD})
        for method in ("post", "FOO", "CONNECT", "PRI", "PROPFIND")
    ),
    Row(21, "preflight", _PREFLIGHT, {405}, {_METHOD}, also=no_origin_is_let_in),
    Row(21, "foreign-origin", asked("GET", "/leads", _EVIL), {401}, {_UNAUTHENTICATED}, also=no_origin_is_let_in),
    *(
        Row(22, f"GET-{target:.40}", asked("GET", target), _ODD_PATHS, _ODD, also=leads_nowhere_else)
        for target in (
            "/leads/",
            "//leads",
            "/LEADS",
            "/Leads",
            "/leads%2f..%2fadmin",
            "/leads/..%2f..%2fetc/passwd",
            "/leads/..;/admin",
            "/leads%00",
            "/%2e%2e/leads",
            "/./leads",
            "/leads\\",
            "//evil.test/leads",
            "/leads%",
            "/leads%zz",
            "@evil.com",
            "evil.com",
            "*",
            "",
            "http://",
            "http://[::1/leads",
            "/leads?q=\x7f",
            "/leads é",
        )
    ),
    *(
        Row(22, f"GET-{target:.40}", asked("GET", target), {401}, {_UNAUTHENTICATED}, also=leads_nowhere_else)
        for target in ("http://evil.test/leads", "/leads#x", "/lead%73", "/leads?token=x&access_token=x", "/leads/%00")
    ),
    *(
        Row(22, f"POST-{target}", posted_to(target), _ODD_PATHS, _ODD, also=leads_nowhere_else)
        for target in ("/leads/", "//leads", "/LEADS", "/leads%2f", "/Leads")
    ),
    Row(22, "foreign-host", asked("GET", "/leads/", ("Host", "evil.test")), {404}, _ODD, also=leads_nowhere_else),
    *(
        Row(22, f"host-{host!r:.20}", asked("GET", "/leads", ("Host", host)), {400}, {_MALFORMED})
        for host in ("a b", "", "a/b", "evil.test/leads?", "é", "a@b", "[::1", "a:b", "a:999999")
    ),
    Row(22, "two-hosts", asked("GET", "/leads", ("Host", "a"), ("Host", "b")), {400}, {_MALFORMED}),
    Row(22, "no-host", lambda g: g.raw(b"GET /leads HTTP/1.1\r\n\r\n"), {400}, {_MALFORMED}),
    Row(22, "HTTP-1.0-in-chunks", lambda g: g.raw(_OLD_CHUNKED), {400}, {_MALFORMED}),
    *(
        Row(22, f"no-HTTP-{start!r:.20}", lambda g, start=start: g.raw(start), {400}, {_MALFORMED})  # type: ignore[misc]
        for start in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
            b"GET /leads HTTP/2.0\r\nHost: a\r\n\r\n",
            b"GET /leads HTTP/9.9\r\nHost: a\r\n\r\n",
            b"GET /leads\r\n\r\n",
            b"GET /leads HTTP/1.1\nHost: a\n\n",
            b"GET /leads HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
            b"GET /leads HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
            b"GET /leads HTTP/1.1\r\nHost: a\r\n: nameless\r\n\r\n",
        )
    ),
]
_HEALTHY = head("GET", "/healthz")
_UNWANTED = head("POST", "/leads", [("Content-Type", "text/plain"), ("Content-Length", "100000")])

LOAD = [
    Row(21, "a-body-nobody-wants", unwanted_body, {405}, {_METHOD}),
    Row(7, "500-slow-headers-and-8-200-slow-bodies", slow_ones, {408, 201}, {"request-timeout"}, good_ones_were_kept),
    Row(
        24,
        "200-uploads-of-5-MiB",
        uploads_at_once,
        {201, 503},
        {"unavailable"},
        most_were_kept,
        within_seconds=60,
        healthy_seconds=3.0,  # it shares two cores with a gigabyte on its way to the disk
    ),
]
