"""The usual take-home (`bench/takehome.py`) under uvicorn, as its README would say to start it."""

import secrets
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from bench.peers.process import Server
from bench.peers.protocol import ADDRESS, PASSWORD, Kept
from bench.peers.rows import rows
from bench.peers.server import ServerPeer
from tests.harness.client import Client


class Takehome(ServerPeer):
    """One deployment of it."""

    name = "FastAPI take-home"

    async def __aenter__(self) -> Self:
        environment = {
            "TAKEHOME_FOLDER": str(self._folder),
            "TAKEHOME_SECRET": secrets.token_urlsafe(48),
            "TAKEHOME_USER": ADDRESS,
            "TAKEHOME_PASSWORD": PASSWORD,
        }
        command = [sys.executable, "-m", "uvicorn", "bench.takehome:app", "--port", self._url.rpartition(":")[2]]
        self._server = Server(command, self._folder, environment)
        await self._server.ready(f"{self._url}/docs")
        return self

    @property
    def intake_url(self) -> str:
        return f"{self._url}/leads"

    @property
    def list_url(self) -> str:
        return f"{self._url}/leads?state=PENDING&limit=50"

    async def sign_in(self) -> Mapping[str, str]:
        async with Client(self._url) as client:
            answer = await client.call("POST", "/login", data={"username": ADDRESS, "password": PASSWORD})
        return {"Authorization": f"Bearer {answer.json['access_token']}"}

    def fill(self, total: int) -> None:
        database = _database(self._folder)
        already = database.execute("SELECT count(*) FROM leads").fetchone()[0]
        with database:
            database.executemany(
                "INSERT INTO leads (id, first_name, last_name, email, resume_path, state, created_at)"
                " VALUES (?, 'Ann', ?, ?, 'uploads/cv.pdf', ?, ?)",
                ((one.id, one.last_name, one.email, one.state, one.created_at) for one in rows(already, total)),
            )
            database.execute("ANALYZE")

    async def upload(self, resume: bytes) -> str:
        async with Client(self._url) as client:
            answer = await client.post_lead(f"{secrets.token_hex(8)}@bench.example", resume)
        return answer.json["id"]

    async def resume_url(self, found_by: str, headers: Mapping[str, str]) -> str:
        del headers  # sent along
        return f"{self._url}/leads/{found_by}/resume"

    def _count(self) -> Kept:
        leads = _database(self._folder).execute("SELECT count(*) FROM leads").fetchone()[0]
        return Kept(leads, sum(1 for _ in (self._folder / "uploads").iterdir()))


def _database(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "leads.db", timeout=30)
