"""A migrated database of the api, a data folder on SQLite that is to move."""

from pathlib import Path

import pytest

from bench.audit import make
from services.api.settings import MIGRATIONS as API_MIGRATIONS
from services.cli.migrate import command
from shared.engines import turns
from tests.harness.moves import LEADS, Site, enrich
from tests.harness.room_on_server import BUSY_SECONDS, opened


@pytest.fixture
async def database(postgres_url, monkeypatch):
    monkeypatch.setattr(turns, "BUSY_TIMEOUT_SECONDS", BUSY_SECONDS)
    async with opened(postgres_url) as database:
        await database.migrate(API_MIGRATIONS)
        yield database


@pytest.fixture
def site(tmp_path: Path, postgres_url: str, monkeypatch) -> Site:
    monkeypatch.setattr(command, "configure_logs", lambda *_: None)
    make(tmp_path / "data", LEADS)
    enrich(tmp_path / "data")
    monkeypatch.setenv("LEADS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LEADS_MIGRATE_TO_URL", postgres_url)
    return Site(tmp_path / "data", postgres_url)
