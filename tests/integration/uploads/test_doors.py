"""No sender gets at more than the upload that its ticket is for, and nobody in without one."""

from pathlib import Path

import pytest

from shared.ids import new_id
from shared.tickets import TICKET_SECONDS, Tickets
from shared.tokens import LEEWAY_SECONDS, SERVICE, STAFF, UPLOAD, Tokens
from tests.harness import raw_http
from tests.harness.storage import SECRET, Storage, storage_in, token
from tests.harness.uploads import BODY, MAX_BYTES, PUBLIC, sender_to, ticket_for


@pytest.mark.parametrize(
    "ticket",
    [
        "",
        "x",
        token(),
        Tokens(SECRET, STAFF).issue("ann@example.com", 60),
        Tokens(SECRET, UPLOAD).issue("01a20fa3-8030-7b11-9c5e-0d1f6a3e7c42", 60, filename="cv.pdf", size_bytes=9),
        Tickets(SECRET[::-1]).issue("01a20fa3-8030-7b11-9c5e-0d1f6a3e7c42", filename="cv.pdf", size_bytes=9),
        Tickets(SECRET).issue("01a20fa3-8030-7b11-9c5e-0d1f6a3e7c43", filename="cv.pdf", size_bytes=9),
        Tickets(SECRET)._tokens.issue(
            "01a20fa3-8030-7b11-9c5e-0d1f6a3e7c42",
            TICKET_SECONDS,
            ahead_seconds=-TICKET_SECONDS - LEEWAY_SECONDS - 1,
            filename="cv.pdf",
            size_bytes=9,
        ),
    ],
    ids=["none", "garbage", "service", "staff", "service key", "another key", "another upload", "expired"],
)
async def test_without_the_ticket_for_this_upload_nothing_is_told_and_nothing_taken(storage: Storage, ticket: str):
    blob_id = "01a20fa3-8030-7b11-9c5e-0d1f6a3e7c42"
    async with sender_to(storage, blob_id, ticket) as sender:
        for told in (await sender.ask(), await sender.send(b"nine byte", 0)):
            assert (told.status, told.offset) == (401, None)
            assert told.headers["WWW-Authenticate"].startswith("Bearer")
    assert storage.kept() | storage.unfinished() == set()


async def test_a_ticket_opens_no_other_door(storage: Storage):
    blob_id = new_id()
    headers = {"Authorization": f"Bearer {ticket_for(blob_id)}"}
    doors = [(method, f"/blobs/{blob_id}") for method in ("PUT", "GET", "HEAD", "DELETE")]
    for method, path in [*doors, ("GET", "/blobs?stored_before=2026-01-01T00:00:00Z"), ("GET", "/newest-lead")]:
        async with storage.client.request(method, path, headers=headers, data=b"x") as response:
            assert (method, path, response.status) == (method, path, 401)
    assert storage.kept() == set()


@pytest.mark.parametrize(
    "name", ["..%2fx", "../x", ".incoming", "%00", "a" * 300, "01A20F3F-4E61-7267-BE94-C31C7A1713CA"]
)
async def test_no_path_is_made_from_what_a_sender_wrote(storage: Storage, name: str):
    before = {path: path.lstat().st_mtime_ns for path in storage.folder.parent.rglob("*")}
    async with sender_to(storage, new_id()) as sender:
        answer = await raw_http.exchange(storage.port, sender.raw(0, 4, f"/uploads/{name}") + b"evil")
    assert answer.status in {401, 404}
    assert {path: path.lstat().st_mtime_ns for path in storage.folder.parent.rglob("*")} == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Tus-Resumable": ""}, 412),
        ({"Tus-Resumable": "0.2.2"}, 412),
        ({"Content-Type": "application/pdf"}, 415),
        ({"Content-Encoding": "gzip"}, 415),
    ],
)
async def test_what_is_not_in_the_protocols_words_is_refused(storage: Storage, headers: dict[str, str], status: int):
    async with sender_to(storage, new_id()) as sender:
        told = await sender.send(BODY, 0, headers)
    assert (told.status, told.headers["Tus-Resumable"]) == (status, "1.0.0")
    assert status != 412 or told.headers["Tus-Version"] == "1.0.0"
    assert storage.unfinished() == set()


async def test_who_asks_first_is_told_what_is_spoken(storage: Storage):
    async with storage.client.options(f"/uploads/{new_id()}") as response:
        assert response.status == 204
        assert (response.headers["Tus-Version"], response.headers["Tus-Max-Size"]) == ("1.0.0", str(MAX_BYTES))


async def test_a_ticket_for_more_than_the_storage_takes_is_good_for_nothing(storage: Storage):
    blob_id = new_id()
    async with sender_to(storage, blob_id, ticket_for(blob_id, MAX_BYTES + 1)) as sender:
        assert (await sender.send(b"x", 0)).status == 413
    assert storage.unfinished() == set()


async def test_pages_of_other_origins_may_send_only_where_a_setting_names_them(tmp_path: Path):
    asked = {
        "Origin": "https://careers.example",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,tus-resumable,upload-offset,content-type",
    }
    named = {"allowed_origins": ("https://careers.example",)}
    for number, (settings, status) in enumerate([({**PUBLIC, **named}, 200), (PUBLIC, 204), (named, 404)]):
        async with (
            storage_in(tmp_path / str(number), **settings) as storage,
            storage.client.options(f"/uploads/{new_id()}", headers=asked) as response,
        ):
            allowed = response.headers.get("Access-Control-Allow-Origin")
            assert response.status == status
            assert allowed == ("https://careers.example" if status == 200 else None)


async def test_where_no_setting_opens_it_the_door_is_not_there(tmp_path: Path):
    async with storage_in(tmp_path) as storage, sender_to(storage, new_id()) as sender:
        assert (await sender.send(BODY, 0)).status == 404
        assert storage.unfinished() == set()
        service = {"Authorization": f"Bearer {Tokens(SECRET, SERVICE).issue('api', 60)}"}
        async with storage.client.get(f"/blobs/{new_id()}/receipt", headers=service) as response:
            assert response.status == 404
