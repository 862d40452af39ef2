"""A room's database in a server, as tests of it work on it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.api.settings import MIGRATIONS as API_MIGRATIONS
from shared.database import Database

BUSY_SECONDS = 0.5
API, NOTIFIER = "LEADS_DATABASE_URL", "LEADS_NOTIFIER_DATABASE_URL"
ADD = "INSERT INTO {}users VALUES ('{}', '', 'staff', 1, now(), NULL)"


@asynccontextmanager
async def opened(url: str, setting: str = API) -> AsyncIterator[Database]:
    """A room's database, closed afterwards."""
    database = Database(url, setting=setting)
    try:
        yield database
    finally:
        await database.close()


def ask(sql: str) -> Callable[[Session], Any]:
    """Work that asks for one value."""
    return lambda session: session.execute(text(sql)).scalar()


def add(name: str) -> Callable[[Session], Any]:
    """Work that adds a user."""
    return lambda session: session.execute(text(ADD.format("", name)))


COUNT = ask("SELECT count(*) FROM users")


async def refused(url: str, kind: type[Exception], words: str) -> None:
    """Fails unless the api will not start there, and says so in one line with these words and no password."""
    async with opened(url) as database:
        with pytest.raises(kind, match=words) as caught:
            await database.migrate(API_MIGRATIONS)
    assert caught.type is kind
    told = str(caught.value)
    assert told.startswith("LEADS_DATABASE_URL: 127.0.0.1:")
    assert "\n" not in told
    assert "s3cret" not in told


_START = """
import asyncio, sys
from services.api.settings import MIGRATIONS
from services.api.settings import MIGRATIONS as API_MIGRATIONS
from shared.database import Database
async def main():
    database = Database(sys.argv[1])
    await database.migrate(MIGRATIONS)
    await database.close()
asyncio.run(main())
"""


async def started_at_once(url: str) -> list[int]:
    """The exit statuses of three processes that bring an empty database up to date at the same moment."""
    rooms = [await asyncio.create_subprocess_exec(sys.executable, "-c", _START, url) for _ in range(3)]
    return [await room.wait() for room in rooms]
