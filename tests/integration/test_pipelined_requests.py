"""Requests that follow each other on one connection: each answer is of its own, and none is done behind the last."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from starlette.types import Receive, Scope, Send

from tests.harness.raw_http import chunk, connection, head, read_answer
from tests.harness.served import Served

PAUSE_SECONDS = 0.2
CHUNKED = {"Transfer-Encoding": "chunked"}


class Noting:
    """Answers each request with its path, after a while, and knows which it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.asked.append(scope["path"])
        if scope["path"] != "/early":
            while (await receive()).get("more_body"):
                pass
            await asyncio.sleep(PAUSE_SECONDS)
        path = scope["path"].encode()
        headers = [(b"content-length", str(len(path)).encode())]
        if scope["path"] in ("/last", "/early"):
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": path})


@pytest_asyncio.fixture
async def served() -> AsyncIterator[tuple[Noting, int]]:
    app = Noting()
    served = Served(app)
    await served.start()
    yield app, served.port
    await served.stop()


async def answers(port: int, sent: bytes, *more: bytes) -> list[tuple[int, bytes]]:
    """All that come until the connection ends."""
    async with asyncio.timeout(5), connection(port) as (reader, writer):
        for piece in (sent, *more):
            writer.write(piece)
            await asyncio.sleep(PAUSE_SECONDS / 4)
        found = []
        while (answer := await read_answer(reader)).status:
            found.append((answer.status, answer.body))
        assert not answer.reset
        return found


GOOD, OTHER, LAST = head("GET", "/good"), head("GET", "/other"), head("GET", "/last")
BROKEN = head("POST", "/broken", CHUNKED) + b"no chunk\r\n"
UNFINISHED = head("POST", "/unfinished", CHUNKED) + chunk(b"a beginning")


async def test_whole_ones_are_answered_in_order(served):
    app, port = served
    assert await answers(port, GOOD + OTHER + LAST) == [(200, b"/good"), (200, b"/other"), (200, b"/last")]
    assert app.asked == ["/good", "/other", "/last"]


async def test_a_broken_one_behind_a_good_one_takes_nothing_from_its_answer(served):
    app, port = served
    assert await answers(port, GOOD + BROKEN) == [(200, b"/good")]
    assert await answers(port, GOOD + OTHER + BROKEN) == [(200, b"/good"), (200, b"/other")]
    assert await answers(port, GOOD + UNFINISHED, b"no chunk\r\n") == [(200, b"/good")]
    assert app.asked == ["/good", "/good", "/other", "/good"]


async def test_what_follows_a_broken_one_is_never_done(served):
    app, port = served
    ((status, _),) = await answers(port, BROKEN + OTHER)
    assert status == 400
    assert "/other" not in app.asked


async def test_nothing_is_done_behind_the_last_answer(served):
    app, port = served
    assert await answers(port, LAST + OTHER) == [(200, b"/last")]
    assert await answers(port, LAST + UNFINISHED) == [(200, b"/last")]
    assert app.asked == ["/last", "/last"]


async def test_nothing_is_done_behind_one_that_was_refused_before_its_end(served):
    app, port = served
    early = head("POST", "/early", CHUNKED) + chunk(b"a beginning")
    assert await answers(port, early, chunk(b"more") + chunk(b"") + OTHER) == [(200, b"/early")]
    assert app.asked == ["/early"]
