"""PocketBase (https://pocketbase.io), from the package that carries its binary, with its defaults.

One collection `leads` with the fields of a lead, an index for each of its queries, and a resume that only who is signed
in may read. PocketBase keeps files without fsync, sends no e-mail and publishes no event.
"""

import secrets
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp

from bench.peers.process import Server
from bench.peers.protocol import ADDRESS, PASSWORD, Kept
from bench.peers.rows import Row, rows
from bench.peers.server import ServerPeer
from tests.harness.client import Answer, Client

MISSING = "pocketbase is not installed: `make bench` installs it (requirements/bench.txt)"
_SIGNED_IN = "@request.auth.id != ''"
_ID_LETTERS = 15
_COLLECTION = {
    "name": "leads",
    "type": "base",
    "listRule": _SIGNED_IN,
    "viewRule": _SIGNED_IN,
    "createRule": "",  # anyone
    "fields": [
        {"name": "first_name", "type": "text", "required": True},
        {"name": "last_name", "type": "text", "required": True},
        {"name": "email", "type": "email", "required": True},
        {
            "name": "resume",
            "type": "file",
            "required": True,
            "maxSelect": 1,
            "maxSize": 10 * 1024 * 1024,
            "mimeTypes": ["application/pdf"],
            "protected": True,
        },
        {"name": "state", "type": "select", "values": ["PENDING", "REACHED_OUT"], "maxSelect": 1},
        {"name": "created", "type": "autodate", "onCreate": True},
    ],
    "indexes": [
        "CREATE UNIQUE INDEX ix_leads_email ON leads (email)",
        "CREATE INDEX ix_leads_state_created ON leads (state, created)",
    ],
}


def find_pocketbase() -> Path | None:
    """The binary, beside this Python or on the search path."""
    beside = Path(sys.executable).parent / "pocketbase"
    found = beside if beside.exists() else shutil.which("pocketbase")
    return Path(found) if found else None


class PocketBase(ServerPeer):
    """One deployment of it."""

    name = "PocketBase"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._data = folder / "pb_data"

    async def __aenter__(self) -> Self:
        program = find_pocketbase()
        if program is None:
            raise RuntimeError(MISSING)
        self._folder.mkdir(parents=True, exist_ok=True)
        upsert = [program, "superuser", "upsert", ADDRESS, PASSWORD, "--dir", self._data]
        subprocess.run(upsert, cwd=self._folder, capture_output=True, check=True)
        serve = [str(program), "serve", f"--http={self._url.removeprefix('http://')}", f"--dir={self._data}"]
        self._server = Server(serve, self._folder)
        await self._server.ready(f"{self._url}/api/health")
        try:
            await self._prepare()
        except BaseException:
            self._server.stop()
            raise
        return self

    @property
    def intake_url(self) -> str:
        return f"{self._url}/api/collections/leads/records"

    @property
    def list_url(self) -> str:
        """Without its total, which would cost it most of its time: Leads tells it on request only, too."""
        return f"{self.intake_url}?filter=(state='PENDING')&sort=-created&perPage=50&skipTotal=1"

    async def sign_in(self) -> Mapping[str, str]:
        async with Client(self._url) as client:
            return await _sign_in(client, "users")

    def fill(self, total: int) -> None:
        database = self._database()
        already = database.execute("SELECT count(*) FROM leads").fetchone()[0]
        with database:
            database.executemany(
                "INSERT INTO leads (id, first_name, last_name, email, resume, state, created)"
                " VALUES (?, 'Ann', ?, ?, 'cv.pdf', ?, ?)",
                map(_values, rows(already, total)),
            )
            database.execute("ANALYZE")

    async def upload(self, resume: bytes) -> str:
        form = aiohttp.FormData({"first_name": "Ann", "last_name": "Lee"})
        form.add_field("email", f"{secrets.token_hex(8)}@bench.example")
        form.add_field("resume", resume, filename="cv.pdf", content_type="application/pdf")
        async with Client(self._url) as client:
            answer = _good(await client.call("POST", "/api/collections/leads/records", data=form))
        return f"{answer['collectionId']}/{answer['id']}/{answer['resume']}"

    async def resume_url(self, found_by: str, headers: Mapping[str, str]) -> str:
        """With a token of its own, as its clients do it; it lasts three minutes."""
        async with Client(self._url) as client:
            token = _good(await client.call("POST", "/api/files/token", headers=headers))["token"]
        return f"{self._url}/api/files/{found_by}?token={token}"

    def _count(self) -> Kept:
        leads = self._database().execute("SELECT count(*) FROM leads").fetchone()[0]
        stored = (self._data / "storage").glob("*/*/*")
        return Kept(leads, sum(1 for path in stored if path.suffix != ".attrs"))

    async def _prepare(self) -> None:
        async with Client(self._url) as client:
            admin = await _sign_in(client, "_superusers")
            user = {"email": ADDRESS, "password": PASSWORD, "passwordConfirm": PASSWORD, "verified": True}
            for path, document in (("", _COLLECTION), ("/users/records", user)):
                _good(await client.call("POST", f"/api/collections{path}", json=document, headers=admin))

    def _database(self) -> sqlite3.Connection:
        return sqlite3.connect(self._data / "data.db", timeout=30)


async def _sign_in(client: Client, collection: str) -> Mapping[str, str]:
    document = {"identity": ADDRESS, "password": PASSWORD}
    answer = await client.call("POST", f"/api/collections/{collection}/auth-with-password", json=document)
    return {"Authorization": _good(answer)["token"]}


def _good(answer: Answer) -> dict[str, Any]:
    if answer.status != 200:
        raise RuntimeError(f"PocketBase answered {answer.status}: {answer.body!r}")
    return answer.json


def _values(row: Row) -> tuple[str, ...]:
    created = f"{row.created_at[:23]}Z"  # milliseconds
    return row.id.replace("-", "")[:_ID_LETTERS], row.last_name, row.email, row.state, created
