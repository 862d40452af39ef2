"""A migrated database of the api, and a server for tests that do it harm."""

from collections.abc import Iterator

import pytest

from services.api.settings import MIGRATIONS as API_MIGRATIONS
from shared.engines import turns
from tests.harness.missing import cannot_run
from tests.harness.postgresql import MISSING, PostgresServer, find_postgresql
from tests.harness.room_on_postgresql import BUSY_SECONDS, opened


@pytest.fixture
async def database(postgres_url, monkeypatch):
    monkeypatch.setattr(turns, "BUSY_TIMEOUT_SECONDS", BUSY_SECONDS)
    async with opened(postgres_url) as database:
        await database.migrate(API_MIGRATIONS)
        yield database


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """For tests that do it harm."""
    if find_postgresql() is None:
        cannot_run(MISSING)
    server = PostgresServer()
    yield server
    server.remove()
