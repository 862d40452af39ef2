"""Leads, with its embedded defaults, or on RabbitMQ and PostgreSQL of its own. Only the rate limits are off.

The rooms run on the processors that `leads up` gives them.
"""

import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Self

from bench import kept
from bench.peers.process import resident_mib
from bench.peers.protocol import Kept
from bench.peers.rows import Row, rows
from services.cli.pinning import processors
from shared.ids import new_id
from shared.postgresql import SCHEMAS
from tests.harness.client import Client
from tests.harness.deployment import ADMIN, PASSWORD, deployed
from tests.harness.postgresql import PostgresServer
from tests.harness.rabbitmq import RabbitNode

_COLUMNS = (
    "id, first_name, last_name, email, email_key, search_text, resume_path, resume_filename, resume_content_type,"
    " resume_size_bytes, resume_sha256, state, version, created_at"
)


class Leads:
    """One deployment with its embedded defaults."""

    name = "Leads"

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._settings = settings or {}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            settings = await stack.enter_async_context(self._surroundings())
            self.deployment = await stack.enter_async_context(
                deployed(self._folder, {**settings, **self._settings}, processors("auto"))
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    @asynccontextmanager
    async def _surroundings(self) -> AsyncIterator[Mapping[str, str]]:
        """What it needs around it, and the settings that tell where that is."""
        yield {}

    @property
    def intake_url(self) -> str:
        return f"{self.deployment.api_url}/leads"

    @property
    def list_url(self) -> str:
        return f"{self.deployment.api_url}/leads?state=PENDING&limit=50"

    async def settle(self, accepted: int) -> Kept:
        drained_seconds = await kept.wait_until_drained(self.deployment)
        leads = kept.check_nothing_is_missing(self.deployment, accepted)
        return Kept(leads, leads, drained_seconds)

    def resident_mib(self) -> float:
        return resident_mib(process.pid for process in self.deployment.processes.values())

    async def sign_in(self) -> Mapping[str, str]:
        async with Client(self.deployment.api_url) as client:
            await client.login(ADMIN, PASSWORD)
            return {"Authorization": f"Bearer {client.token}"}

    def fill(self, total: int) -> None:
        connection = sqlite3.connect(self.deployment.data / "leads.db", timeout=30)
        already = connection.execute("SELECT count(*) FROM leads").fetchone()[0]
        marks = ", ".join("?" for _ in _COLUMNS.split(","))
        with connection:
            connection.executemany(
                f"INSERT INTO leads ({_COLUMNS}) VALUES ({marks})", map(_values, rows(already, total))
            )
            connection.execute("ANALYZE leads")
        connection.close()

    async def upload(self, resume: bytes) -> str:
        async with Client(self.deployment.api_url) as client:
            answer = await client.post_lead(f"{new_id()}@bench.example", resume)
        return answer.json["id"]

    async def resume_url(self, found_by: str, headers: Mapping[str, str]) -> str:
        del headers  # sent along
        return f"{self.deployment.api_url}/leads/{found_by}/resume"


class LeadsOnRabbitMQ(Leads):
    """The same with RabbitMQ in place of the embedded bus."""

    name = "Leads on RabbitMQ"

    @asynccontextmanager
    async def _surroundings(self) -> AsyncIterator[Mapping[str, str]]:
        async with broker(self._folder / "rabbitmq") as self.node:
            yield {"LEADS_BROKER_URL": self.node.url()}


class LeadsOnPostgreSQL(LeadsOnRabbitMQ):
    """The same with PostgreSQL in place of SQLite, too."""

    name = "Leads on RabbitMQ and PostgreSQL"

    @asynccontextmanager
    async def _surroundings(self) -> AsyncIterator[Mapping[str, str]]:
        self.server = PostgresServer()
        try:
            self.server.start()
            url = self.server.url(self.server.add_database())
            async with super()._surroundings() as settings:
                yield {**settings, **dict.fromkeys(SCHEMAS, url)}
        finally:
            self.server.remove()


@asynccontextmanager
async def broker(folder: Path) -> AsyncIterator[RabbitNode]:
    """A RabbitMQ node of its own. Raises `RuntimeError` when RabbitMQ is not installed."""
    folder.mkdir(parents=True)
    node = RabbitNode(folder)
    try:
        node.start()
        yield node
    finally:
        node.stop()


def _values(row: Row) -> tuple[object, ...]:
    person = (row.id, "Ann", row.last_name, row.email, row.email, f"ann {row.last_name} {row.email}")
    resume = (new_id(), "cv.pdf", "application/pdf", 65536, "0f" * 32)
    return (*person, *resume, row.state, 1, row.created_at)
