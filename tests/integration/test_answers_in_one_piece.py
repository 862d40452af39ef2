"""An answer's head goes out with the first of its body: one packet. Nobody waits for it who need not."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from starlette.types import Receive, Scope, Send

from tests.harness.raw_http import connection, exchange, head, read_answer
from tests.harness.served import Served

PAUSE_SECONDS = 0.2
START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]}
FIRST = {"type": "http.response.body", "body": b"this", "more_body": True}
SECOND = {"type": "http.response.body", "body": b"that"}


async def hesitant(scope: Scope, receive: Receive, send: Send) -> None:
    """Thinks after the head, and between the halves of the body. At `/fails` it fails instead of that."""
    if scope["type"] != "http":
        return
    if scope["method"] == "POST":
        while (await receive())["more_body"]:
            pass
    await send(START)
    if scope["path"] == "/fails":
        raise RuntimeError("on purpose")
    await asyncio.sleep(PAUSE_SECONDS)
    await send(FIRST)
    await asyncio.sleep(PAUSE_SECONDS)
    await send(SECOND)


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    served = Served(hesitant)
    await served.start()
    yield served.port
    await served.stop()


async def test_the_head_comes_with_the_first_of_the_body_and_not_before(port):
    async with connection(port) as (reader, writer):
        for _ in range(2):
            writer.write(head("GET", "/"))
            arrived = await asyncio.wait_for(reader.read(65536), 5)
            assert arrived.startswith(b"HTTP/1.1 200 OK\r\n")
            assert arrived.endswith(b"\r\n\r\nthis")
            assert await asyncio.wait_for(reader.read(65536), 5) == b"that"


async def test_two_that_were_asked_for_at_once_come_whole_and_in_order(port):
    async with connection(port) as (reader, writer):
        writer.write(head("GET", "/") + head("GET", "/"))
        answers = [await asyncio.wait_for(read_answer(reader), 5) for _ in range(2)]
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"thisthat")] * 2


async def test_an_answer_without_a_body_does_not_wait_for_one(port):
    answer = await exchange(port, head("HEAD", "/"), bodiless=True)
    assert (answer.status, answer.headers["content-length"]) == (200, "8")


async def test_who_asks_whether_to_send_is_told_before_there_is_an_answer(port):
    async with connection(port) as (reader, writer):
        writer.write(head("POST", "/", {"Content-Length": "2", "Expect": "100-continue"}))
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 100")
        writer.write(b"ok")
        assert (await asyncio.wait_for(read_answer(reader), 5)).body == b"thisthat"


@pytest.mark.filterwarnings("ignore")
async def test_of_an_answer_that_fails_after_its_head_the_head_is_to_be_seen(port):
    answer = await exchange(port, head("GET", "/fails"))
    assert (answer.status, answer.body) == (200, b"")


async def test_of_an_answer_that_a_broken_request_ends_the_head_is_to_be_seen(port):
    async with connection(port) as (reader, writer):
        writer.write(head("GET", "/", {"Transfer-Encoding": "chunked"}))
        await asyncio.sleep(PAUSE_SECONDS / 2)
        writer.write(b"this is no chunk\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 200 OK\r\n")
        assert await asyncio.wait_for(reader.read(), 5) == b""
