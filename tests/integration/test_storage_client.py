"""The api's way to the storage: short and long resumes arrive whole, and what breaks off leaves nothing behind."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from hashlib import sha256

import pytest

from services.api import storage_client
from services.api.storage_client import StorageClient
from services.api.storage_puts import SHORT_MAX_BYTES, StoredBlob
from shared import limited_http
from shared.ids import new_id
from shared.problems import Problem, ProblemType
from shared.tokens import SERVICE, Tokens
from tests.harness.storage import SECRET, storage_in

PIECE_BYTES = 16 * 1024
LENGTHS = [1, SHORT_MAX_BYTES, SHORT_MAX_BYTES + 1, 10 * SHORT_MAX_BYTES]


@pytest.fixture
async def storage(tmp_path):
    async with storage_in(tmp_path) as storage:
        yield storage


@pytest.fixture
async def client(storage):
    async with StorageClient(f"http://127.0.0.1:{storage.port}", Tokens(SECRET, SERVICE)) as client:
        yield client


async def pieces(body: bytes, failure: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]
    if failure is not None:
        raise failure


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_resume_of_any_length_arrives_as_it_was_sent(storage, client, length):
    body, blob_id = bytes(range(256)) * (length // 256 + 1), new_id()
    body = body[:length]
    assert await client.put(blob_id, pieces(body)) == StoredBlob(length, sha256(body).hexdigest())
    assert (storage.folder / blob_id).read_bytes() == body


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_form_that_turns_out_bad_at_its_end_is_refused_for_its_own_reason_and_leaves_nothing(
    storage, client, length
):
    refusal = Problem(ProblemType.INVALID_FIELDS, "The last field was at fault.")
    with pytest.raises(Problem) as caught:
        await client.put(new_id(), pieces(b"x" * length, refusal))
    assert caught.value is refusal
    for _ in range(100):
        if not storage.unfinished():
            break
        await asyncio.sleep(0.02)
    assert (storage.kept(), storage.unfinished()) == (set(), set())


async def test_a_connection_that_is_lost_after_the_resume_was_stored_costs_nothing(storage, client, monkeypatch):
    """aiohttp sends a PUT again by itself when a kept-alive connection is closed instead of answered."""
    await client.put(new_id(), pieces(b"so that there is a kept-alive connection"))
    with monkeypatch.context() as once:

        def lose(door: limited_http._Door, _answer: bytes) -> None:
            door._protocol.transport.abort()
            once.undo()

        once.setattr(limited_http._Door, "write", lose)
        body, blob_id = b"stored, and not answered", new_id()
        assert await client.put(blob_id, pieces(body)) == StoredBlob(len(body), sha256(body).hexdigest())
    assert (storage.folder / blob_id).read_bytes() == body


@pytest.mark.parametrize("length", [1, 10 * SHORT_MAX_BYTES])
async def test_a_storage_that_is_away_is_unavailable_for_a_while(length):
    async with StorageClient("http://127.0.0.1:1", Tokens(SECRET, SERVICE)) as lost:
        with pytest.raises(Problem) as caught:
            await lost.put(new_id(), pieces(b"x" * length))
    assert caught.value.type is ProblemType.UNAVAILABLE
    assert caught.value.headers["Retry-After"] == "5"


@pytest.mark.parametrize("hours", [1, -1, -24])
async def test_a_storage_whose_clock_is_hours_away_takes_the_resume_all_the_same(storage, monkeypatch, hours):
    """It verifies tokens by its own clock, which it tells when it refuses one."""
    made_here, late = Tokens(SECRET, SERVICE), Tokens(SECRET, SERVICE).issue

    def issue(subject: str, lifetime_seconds: int, *, ahead_seconds: float = 0.0) -> str:
        return late(subject, lifetime_seconds, ahead_seconds=ahead_seconds - hours * 3600)

    monkeypatch.setattr(made_here, "issue", issue)
    monkeypatch.setattr("services.api.storage_hop.time", Clock(time.time() - hours * 3600))
    async with StorageClient(f"http://127.0.0.1:{storage.port}", made_here) as client:
        blob_id = new_id()
        assert (await client.put(blob_id, pieces(b"x"))).size_bytes == 1
        assert (await client.put(new_id(), pieces(b"x" * 10 * SHORT_MAX_BYTES))).size_bytes == 10 * SHORT_MAX_BYTES
        await client.remove(blob_id)


class Clock:
    """The time of a room that is apart; how long things take is the same there."""

    monotonic = staticmethod(time.monotonic)

    def __init__(self, now: float) -> None:
        self._now = now

    def time(self) -> float:
        return self._now


async def test_a_storage_that_takes_our_token_again_is_ready_again_whatever_it_answers(storage):
    async with StorageClient(f"http://127.0.0.1:{storage.port}", Tokens("x" * 48, SERVICE)) as client:
        with pytest.raises(Problem):
            await client.put(new_id(), pieces(b"x"))
        with pytest.raises(RuntimeError, match="another LEADS_SERVICE_SECRET"):
            await client.check()
        client._hop._tokens, client._hop._token_until = Tokens(SECRET, SERVICE), 0.0
        async with client.get(new_id(), None) as response:
            assert response.status == 404
        await client.check()


@pytest.fixture
async def stuck():
    """A storage that says so much of its answer to each request, and no more; but for that, it is ready."""
    said = [b""]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        writer.write(READY if asked.startswith(b"GET /readyz") else said[0])
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with StorageClient(f"http://127.0.0.1:{port}", Tokens(SECRET, SERVICE)) as client:
            yield client, said


READY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", BEGUN])
async def test_a_short_resume_that_does_not_come_is_unavailable_in_time(stuck, monkeypatch, said: bytes):
    monkeypatch.setattr(storage_client, "ANSWER_SECONDS", 0.2)
    client, says = stuck
    says[0] = said
    async with asyncio.timeout(5):
        with pytest.raises(Problem) as caught:
            await client.read(new_id(), None)
    assert caught.value.type is ProblemType.UNAVAILABLE


async def test_a_long_resume_may_take_its_time_once_it_has_begun(stuck, monkeypatch):
    monkeypatch.setattr(storage_client, "ANSWER_SECONDS", 0.2)
    client, says = stuck
    with pytest.raises(Problem) as caught:
        async with client.get(new_id(), None):
            pass
    assert caught.value.type is ProblemType.UNAVAILABLE
    says[0] = BEGUN
    async with client.get(new_id(), None) as answer:
        await asyncio.sleep(0.4)
        assert await answer.content.readany() == b"half of it"


async def test_a_refused_token_that_is_being_made_anew_is_nobodys_wrong_secret(stuck, monkeypatch):
    """The storage has another time, and is away when it is asked again."""
    monkeypatch.setattr(storage_client, "ANSWER_SECONDS", 0.2)
    client, says = stuck
    says[0] = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"  # and nothing to what comes behind it
    with pytest.raises(Problem):
        await client.read(new_id(), None)
    await client.check()
