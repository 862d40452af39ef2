"""A migrated database of the api."""

import pytest

from services.api.settings import MIGRATIONS as API_MIGRATIONS
from shared.engines import turns
from tests.harness.room_on_server import opened

BUSY_SECONDS = 1.0
"""The server counts in whole seconds."""


@pytest.fixture
async def database(maria_url, monkeypatch):
    monkeypatch.setattr(turns, "BUSY_TIMEOUT_SECONDS", BUSY_SECONDS)
    async with opened(maria_url) as database:
        await database.migrate(API_MIGRATIONS)
        yield database
