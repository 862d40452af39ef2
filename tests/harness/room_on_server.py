"""A room's database in a server, as tests of it work on it."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

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
