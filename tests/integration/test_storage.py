"""The storage room over HTTP: what is kept, what is refused, and that a refusal leaves nothing behind."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from structlog.testing import capture_logs
from yarl import URL

from services.storage import files, local, routes
from services.storage.blobs import BlobFacts
from services.storage.bodies import PIECE_BYTES
from shared.ids import new_id
from shared.tokens import LEEWAY_SECONDS, SERVICE, STAFF, Tokens
from tests.harness import raw_http
from tests.harness.storage import SECRET, Storage, storage_in, token

pytestmark = pytest.mark.asyncio(loop_scope="module")

MAX_BYTES = 300_000
SHORT, LONG = 1000, 290_000
"""One that is written in a single piece, and one that is streamed to the disk."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory):
    async with storage_in(tmp_path_factory.mktemp("data"), resume_max_bytes=MAX_BYTES) as storage:
        yield storage


@pytest.fixture
def storage(running: Storage):
    yield running
    assert running.unfinished() == set()


async def in_chunks(body: bytes, size: int = 16_384) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def put(storage: Storage, body: bytes, blob_id: str | None = None, **headers: str) -> tuple[int, dict]:
    url = f"/blobs/{blob_id or new_id()}"
    async with storage.client.put(url, data=in_chunks(body), headers=headers) as response:
        return response.status, await response.json()


async def call(storage: Storage, method: str, path: str, **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    url = URL(f"http://127.0.0.1:{storage.port}{path}", encoded=True)
    async with storage.client.request(method, url, headers=headers) as response:
        return response.status, response.headers, await response.read()


def head_of_put(framing: str, value: str) -> bytes:
    return raw_http.head("PUT", f"/blobs/{new_id()}", {"Authorization": f"Bearer {token()}", framing: value})


@pytest.mark.parametrize("size", [1, SHORT, PIECE_BYTES, PIECE_BYTES + 1, LONG, MAX_BYTES])
async def test_the_bytes_come_back_as_they_went_in(storage: Storage, size: int):
    body = os.urandom(size)
    blob_id = new_id()
    receipt = {"id": blob_id, "size_bytes": size, "sha256": hashlib.sha256(body).hexdigest()}
    assert await put(storage, body, blob_id) == (201, receipt)
    status, headers, found = await call(storage, "GET", f"/blobs/{blob_id}")
    assert (status, found) == (200, body)
    assert (headers["Content-Length"], headers["ETag"]) == (str(size), f'"{blob_id}"')
    assert (headers["Accept-Ranges"], headers["Content-Type"]) == ("bytes", "application/octet-stream")
    assert (storage.folder / blob_id).stat().st_mode & 0o777 == 0o600


async def test_one_byte_over_the_limit_is_refused_and_not_kept(storage: Storage):
    before = storage.kept()
    status, problem = await put(storage, bytes(MAX_BYTES + 1))
    assert (status, problem["type"]) == (413, "urn:leads:problem:body-too-large")
    head = head_of_put("Transfer-Encoding", "chunked")
    answer = await raw_http.exchange(storage.port, head + raw_http.chunk(bytes(MAX_BYTES + 1)))
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    assert storage.kept() == before


async def test_an_empty_body_is_refused(storage: Storage):
    before = storage.kept()
    assert (await put(storage, b""))[1]["type"] == "urn:leads:problem:malformed-request"
    assert storage.kept() == before


@pytest.mark.parametrize("sent", [SHORT, LONG])
async def test_a_body_that_takes_too_long_is_refused_and_not_kept(storage: Storage, monkeypatch, sent: int):
    monkeypatch.setattr(routes, "BODY_DEADLINE_SECONDS", 0.1)
    before = storage.kept()
    head = head_of_put("Transfer-Encoding", "chunked")
    answer = await raw_http.exchange(storage.port, head + raw_http.chunk(bytes(sent)))
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert storage.kept() == before


@pytest.mark.parametrize("sent", [SHORT, LONG])
@pytest.mark.parametrize("framing", [("Content-Length", str(LONG + 1)), ("Transfer-Encoding", "chunked")])
async def test_a_sender_who_leaves_half_way_leaves_nothing_but_one_line(storage: Storage, sent: int, framing):
    before = storage.kept()
    name, value = framing
    body = raw_http.chunk(bytes(sent)) if value == "chunked" else bytes(sent)
    head = head_of_put(name, value)
    with capture_logs() as logs:
        async with raw_http.connection(storage.port) as (_, writer):
            writer.write(head + body)
            await writer.drain()
            while sent == LONG and not storage.unfinished():
                await asyncio.sleep(0.005)
        while not logs:
            await asyncio.sleep(0.005)
    assert [(line["status"], line["log_level"]) for line in logs] == [("client gone", "info")]
    assert storage.unfinished() == set()
    assert storage.kept() == before


async def test_a_body_that_breaks_its_framing_is_not_kept(storage: Storage):
    before = storage.kept()
    head = head_of_put("Transfer-Encoding", "chunked")
    answer = await raw_http.exchange(storage.port, head + raw_http.chunk(bytes(LONG)) + b"no chunk\r\n")
    assert answer.status == 400
    while storage.unfinished():
        await asyncio.sleep(0.005)
    assert storage.kept() == before


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Basic bm86bm8=",
        "Bearer not-a-token",
        f"Bearer {Tokens(SECRET, STAFF).issue('api', 60)}",
        f"Bearer {Tokens(SECRET[::-1], SERVICE).issue('api', 60)}",
        f"Bearer {token(-LEEWAY_SECONDS - 1)}",
    ],
    ids=["none", "empty", "basic", "garbage", "another audience", "another key", "expired"],
)
async def test_no_door_opens_without_a_good_token(storage: Storage, authorization: str):
    blob_id = new_id()
    await put(storage, b"kept", blob_id)
    before = storage.kept()
    doors = [(method, f"/blobs/{blob_id}") for method in ("PUT", "GET", "HEAD", "DELETE")]
    for method, path in [*doors, ("PUT", f"/blobs/{new_id()}"), ("GET", "/blobs"), ("PUT", "/blobs/no-id")]:
        status, headers, _ = await call(storage, method, path, Authorization=authorization)
        assert (method, path, status) == (method, path, 401)
        assert headers["WWW-Authenticate"].startswith("Bearer")
    assert storage.kept() == before


@pytest.mark.parametrize(
    "name",
    [
        "..%2fescaped",
        "%2e%2e%2fescaped",
        "..%2f..%2f..%2fetc%2fpasswd",
        "../escaped",
        "..",
        ".incoming",
        "%00",
        "a" * 300,
        "01A20F3F-4E61-7267-BE94-C31C7A1713CA",
        "{01a20f3f-4e61-7267-be94-c31c7a1713ca}",
        "01a20f3f4e617267be94c31c7a1713ca",
        "01a20f3f-4e61-7267-be94-c31c7a1713ca%0a",
        "01a20f3f-4e61-7267-be94-c31c7a1713ca/",
    ],
)
async def test_a_name_that_is_no_id_is_404_and_touches_nothing(storage: Storage, name: str):
    before = around(storage.folder)
    for method in ("PUT", "GET", "HEAD", "DELETE"):
        target = raw_http.head(method, f"/blobs/{name}", {"Authorization": f"Bearer {token()}", "Content-Length": "4"})
        answer = await raw_http.exchange(storage.port, target + b"evil", bodiless=method == "HEAD")
        assert (method, answer.status) == (method, 404)
    assert around(storage.folder) == before


def around(folder: Path) -> dict[Path, int]:
    """What lies in the storage's folder and two floors above, with its times. Not the whole house: that takes long."""
    seen = [*folder.rglob("*"), *folder.parent.iterdir(), *folder.parents[1].iterdir()]
    return {path: path.lstat().st_mtime_ns for path in seen}


@pytest.mark.parametrize(
    ("asked", "status", "content_range", "start", "stop"),
    [
        ("bytes=0-99", 206, "bytes 0-99/1000", 0, 100),
        ("bytes=0-0", 206, "bytes 0-0/1000", 0, 1),
        ("BYTES=990-", 206, "bytes 990-999/1000", 990, 1000),
        ("bytes=-10", 206, "bytes 990-999/1000", 990, 1000),
        ("bytes=-5000", 206, "bytes 0-999/1000", 0, 1000),
        ("bytes=500-5000", 206, "bytes 500-999/1000", 500, 1000),
        ("bytes=0-" + "9" * 99, 206, "bytes 0-999/1000", 0, 1000),
        ("bytes=1000-", 416, "bytes */1000", 0, 0),
        ("bytes=1000-1001", 416, "bytes */1000", 0, 0),
        ("bytes=-0", 416, "bytes */1000", 0, 0),
        ("bytes=" + "9" * 99 + "-", 416, "bytes */1000", 0, 0),
        ("bytes=0-1,5-6", 200, None, 0, 1000),
        ("bytes=5-4", 200, None, 0, 1000),
        ("bytes=-", 200, None, 0, 1000),
        ("bytes=a-b", 200, None, 0, 1000),
        ("bytes=0", 200, None, 0, 1000),
        ("bytes=" + "9" * 5000 + "-", 200, None, 0, 1000),
        ("lines=0-1", 200, None, 0, 1000),
    ],
)
async def test_a_range_is_what_rfc_9110_says(storage: Storage, asked, status, content_range, start, stop):
    body, blob_id = os.urandom(1000), new_id()
    await put(storage, body, blob_id)
    answered, headers, found = await call(storage, "GET", f"/blobs/{blob_id}", Range=asked)
    assert (answered, headers.get("Content-Range")) == (status, content_range)
    if status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        assert found == body[start:stop]
        assert headers["Content-Length"] == str(stop - start)


async def test_a_range_is_kept_to_only_under_its_own_etag_and_not_by_head(storage: Storage, monkeypatch):
    blob_id = new_id()
    await put(storage, bytes(LONG), blob_id)
    asked = {"Range": "bytes=200000-200009"}
    same = await call(storage, "GET", f"/blobs/{blob_id}", **asked, **{"If-Range": f'"{blob_id}"'})
    other = await call(storage, "GET", f"/blobs/{blob_id}", **asked, **{"If-Range": '"another"'})
    for read in ("read", "look_into"):  # nor does HEAD read what nobody gets
        monkeypatch.delattr(local.LocalBlobs, read)
    head = await call(storage, "HEAD", f"/blobs/{blob_id}", **asked)
    lengths = [(status, headers["Content-Length"]) for status, headers, _ in (same, other, head)]
    assert lengths == [(206, "10"), (200, str(LONG)), (200, str(LONG))]


async def test_a_blob_that_ends_too_early_ends_the_connection(storage: Storage, monkeypatch):
    blob_id = new_id()
    await put(storage, bytes(LONG), blob_id)
    honest = files.facts_of

    def boasting(*seen):
        facts = honest(*seen)
        return BlobFacts(facts.id, facts.size_bytes + 1, facts.stored_at)

    monkeypatch.setattr(files, "facts_of", boasting)
    with capture_logs() as logs, pytest.raises(aiohttp.ClientPayloadError):
        await call(storage, "GET", f"/blobs/{blob_id}")
    while not any(line["event"] == "request failed" for line in logs):
        await asyncio.sleep(0.005)


async def test_a_deleted_blob_is_gone_and_may_be_deleted_again(storage: Storage):
    blob_id = new_id()
    await put(storage, b"kept", blob_id)
    assert [(await call(storage, "DELETE", f"/blobs/{blob_id}"))[0] for _ in range(2)] == [204, 204]
    for method in ("GET", "HEAD"):
        assert (await call(storage, method, f"/blobs/{blob_id}"))[0] == 404
    assert blob_id not in storage.kept()


@pytest.mark.parametrize(
    "query",
    ["", "stored_before=yesterday", "stored_before=2026-01-01T00:00:00"]
    + [f"stored_before=2026-01-01T00:00:00Z&{more}" for more in ("limit=0", "limit=1001", "after=..%2f")],
)
async def test_a_page_that_is_asked_for_badly_is_422(storage: Storage, query: str):
    assert (await call(storage, "GET", f"/blobs?{query}"))[0] == 422


async def test_what_was_written_is_counted_and_no_page_describes_this_room(storage: Storage):
    async def counted() -> float:
        text = (await call(storage, "GET", "/metrics"))[2].decode()
        (line,) = [one for one in text.splitlines() if one.startswith("leads_blob_written_bytes_total ")]
        return float(line.split()[1])

    before = await counted()
    await put(storage, bytes(SHORT))
    assert await counted() == before + SHORT
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert (await call(storage, "GET", path))[0] == 404
    assert (await call(storage, "POST", f"/blobs/{new_id()}"))[0] == 405
