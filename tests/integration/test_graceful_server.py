"""A server that is told to stop parts from its clients in peace: who is heard is answered, who is silent is let go."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from fastapi import FastAPI

from shared import graceful
from shared.graceful import GracefulServer
from shared.health import Health, health_routes
from tests.harness.raw_http import connection, head, read_answer
from tests.harness.served import Served

SLOW = head("GET", "/slow")
SLOW_SECONDS = 0.1
SHORT_SECONDS = 0.3
"""A lame duck's moment for tests that wait for its end; others have one that no machine is too slow for."""


class Slowly(Served):
    """One that takes its time to answer."""

    def __init__(self) -> None:
        app = FastAPI()
        app.include_router(health_routes(Health(required={})))
        app.add_api_route("/slow", self._slow)
        super().__init__(app)
        self.begun = threading.Event()

    async def _slow(self) -> dict[str, str]:
        self.begun.set()
        await asyncio.sleep(SLOW_SECONDS)
        return {"said": "all"}


@pytest_asyncio.fixture
async def served(monkeypatch) -> AsyncIterator[Slowly]:
    monkeypatch.setattr(graceful, "LAME_DUCK_SECONDS", 3.0)
    served = Slowly()
    await served.start()
    yield served
    await served.stop()


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[int, str | None]:
    writer.write(SLOW)
    answer = await asyncio.wait_for(read_answer(reader), 5)
    return answer.status, answer.headers.get("connection")


async def test_a_server_that_nobody_is_connected_to_stops_at_once(served: Slowly):
    assert await served.stop() < 2


async def test_a_silent_connection_holds_the_stop_up_for_a_moment_only(served: Slowly, monkeypatch):
    monkeypatch.setattr(graceful, "LAME_DUCK_SECONDS", SHORT_SECONDS)
    async with connection(served.port) as (reader, writer):
        assert await answered(reader, writer) == (200, None)
        assert SHORT_SECONDS < await served.stop() < 3
        assert await reader.read() == b""


async def test_before_the_door_is_closed_old_and_new_clients_are_answered_and_told_to_leave(served: Slowly):
    async with connection(served.port) as kept, connection(served.port) as busy:
        assert await answered(*kept) == (200, None)
        served.begun.clear()
        asking = asyncio.create_task(answered(*busy))
        await asyncio.to_thread(served.begun.wait)
        await served.begin_to_stop()
        assert await asking == (200, "close")
        assert await answered(*kept) == (200, "close")
        async with connection(served.port) as new:
            assert await answered(*new) == (200, "close")


async def test_readiness_ends_while_clients_are_still_answered(served: Slowly):
    async with connection(served.port), connection(served.port) as (reader, writer):
        await served.begin_to_stop()
        writer.write(head("GET", "/readyz"))
        answer = await read_answer(reader)
    assert (answer.status, answer.json["checks"]) == (503, {"room": "about to stop"})


@pytest.mark.long
async def test_a_request_of_which_a_part_has_come_is_answered_also_when_its_end_comes_late(served: Slowly, monkeypatch):
    monkeypatch.setattr(graceful, "LAME_DUCK_SECONDS", SHORT_SECONDS)
    async with connection(served.port) as (reader, writer):
        assert await answered(reader, writer) == (200, None)
        writer.write(SLOW[:10])
        await served.begin_to_stop()
        await asyncio.sleep(2 * SHORT_SECONDS)
        writer.write(SLOW[10:])
        answer = await read_answer(reader, to_end=True)
        assert (answer.status, answer.reset) == (200, False)


async def test_headers_that_do_not_end_are_refused_soon(served: Slowly, monkeypatch):
    monkeypatch.setattr(graceful, "UNFINISHED_HEADERS_SECONDS", 0.3)
    async with connection(served.port) as (reader, writer), connection(served.port) as (late_reader, late_writer):
        writer.write(SLOW[:10])
        await asyncio.sleep(0.05)
        await served.begin_to_stop()
        late_writer.write(SLOW[:10])
        for one in (reader, late_reader):
            assert (await asyncio.wait_for(read_answer(one), 2)).status == 408
    assert await served.stop() < 2


@pytest_asyncio.fixture
async def thaw(served: Slowly, monkeypatch) -> threading.Event:
    """The server, told to stop, is busy with something else: until this is set, and then until its moment is over."""
    thaw = threading.Event()

    async def frozen(_server: GracefulServer) -> None:
        served.begun.set()
        thaw.wait(10)
        time.sleep(SHORT_SECONDS)

    monkeypatch.setattr(graceful, "LAME_DUCK_SECONDS", SHORT_SECONDS)
    monkeypatch.setattr(GracefulServer, "_alone", frozen)
    return thaw


async def test_a_request_that_has_come_and_is_not_read_when_the_silence_is_over_is_answered(served: Slowly, thaw):
    async with connection(served.port) as (reader, writer):
        assert await answered(reader, writer) == (200, None)
        served.begun.clear()
        await served.begin_to_stop()
        await asyncio.to_thread(served.begun.wait)
        asking = asyncio.create_task(answered(reader, writer))
        await asyncio.sleep(0.01)
        thaw.set()
        assert await asking == (200, "close")


async def test_clients_whom_the_kernel_has_connected_when_the_door_is_closed_are_let_in(served: Slowly, thaw):
    await served.begin_to_stop()
    await asyncio.to_thread(served.begun.wait)
    async with AsyncExitStack() as stack:
        waiting = [await stack.enter_async_context(connection(served.port)) for _ in range(50)]
        asking = [asyncio.create_task(answered(*client)) for client in waiting]
        await asyncio.sleep(0.01)
        thaw.set()
        assert await asyncio.gather(*asking) == [(200, "close")] * 50
    await served.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", served.port)
