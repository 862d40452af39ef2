"""What work on MariaDB sees of others, and what becomes of it when they are in its way."""

import asyncio
import time
from functools import partial

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError

from services.api import leads, store
from services.api.settings import MIGRATIONS as API_MIGRATIONS
from shared.engines import mysql
from shared.problems import Problem, ProblemType
from shared.troubles import trouble_of
from tests.harness.mariadb import holding, query
from tests.harness.room_on_server import ADD, COUNT, add, ask, opened
from tests.harness.submissions import submission
from tests.integration.mariadb.conftest import BUSY_SECONDS

pytestmark = [pytest.mark.mariadb, pytest.mark.long]

COPY = (
    "INSERT INTO leads SELECT 'b', first_name, last_name, email, 'b@x.com', search_text, 'coming', resume_filename,"
    " resume_content_type, resume_size_bytes, resume_sha256, state, version, created_at FROM leads"
)
"""Another lead of the only one that there is, with a resume of its own."""


async def test_who_reads_sees_one_snapshot_and_can_write_nothing(database, maria_url):
    def look_twice(session):
        before = COUNT(session)
        query(maria_url, ADD.format("", "meanwhile"))
        return before, COUNT(session)

    assert await database.read(look_twice) == (0, 0)
    assert await database.read(COUNT) == 1
    with pytest.raises(Problem) as caught:
        await database.read(add("never"))
    assert "READ ONLY" in str(caught.value.__cause__)


async def test_rows_that_are_locked_are_unavailable_in_time_and_for_a_while(database, maria_url):
    await database.write(add("a"))
    change = "UPDATE users SET token_version = 2 WHERE email = 'a'"
    with holding(maria_url, change):
        began_at = time.monotonic()
        with pytest.raises(Problem) as caught:
            await database.write(lambda session: session.execute(text(change)))
        assert time.monotonic() - began_at < BUSY_SECONDS + 2
    assert caught.value.type is ProblemType.UNAVAILABLE
    assert caught.value.headers["Retry-After"] == "5"
    await database.write(lambda session: session.execute(text(change)))


async def test_of_two_that_wait_for_each_other_both_succeed(maria_url):
    def lock(first: str, second: str, session) -> None:
        for name in (first, second):
            session.execute(text(f"UPDATE users SET token_version = token_version + 1 WHERE email = '{name}'"))
            session.execute(text("DO SLEEP(0.2)"))

    async with opened(maria_url) as database:
        await database.migrate(API_MIGRATIONS)
        for name in ("a", "b"):
            await database.write(add(name))
        await asyncio.gather(database.write(partial(lock, "a", "b")), database.write(partial(lock, "b", "a")))
        assert await database.read(ask("SELECT sum(token_version) FROM users")) == 6


async def test_a_statement_that_takes_too_long_is_given_up_and_named(maria_url, monkeypatch):
    monkeypatch.setattr(mysql, "STATEMENT_SECONDS", 0.2)
    async with opened(maria_url) as database:
        with pytest.raises(Problem) as caught:
            await database.write(ask("SELECT SLEEP(5)"))
    assert trouble_of(caught.value.__cause__).words.startswith("took too long over a statement")


async def test_what_is_left_open_is_not_handed_to_whoever_comes_next(database):
    """As by a server that refuses a COMMIT: by a limit of the user, or a node that has lost its cluster."""

    def leave_open(connection):
        cursor = connection.connection.cursor()
        cursor.execute(ADD.format("", "left open"))
        cursor.close()

    def own_id(session):
        return session.execute(text("SELECT CONNECTION_ID()")).scalar()

    before = {await database.write(own_id) for _ in range(8)}
    await database._writer.run(leave_open)
    assert await database.write(COUNT) == 0
    assert await database.write(own_id) not in before


async def test_what_does_not_fit_is_an_error_of_its_own_and_no_outage(database):
    with pytest.raises(DataError):
        await database.write(add("a" * 400))
    await database.write(add("a" * 380))


async def test_who_goes_away_does_not_take_the_transaction_along(database, maria_url):
    going = asyncio.create_task(database.write(lambda s: (add("kept")(s), s.execute(text("DO SLEEP(0.3)")))))
    await asyncio.sleep(0.1)
    going.cancel()
    await database.close()
    assert going.cancelled()
    assert query(maria_url, "SELECT email FROM users") == [("kept",)]


async def test_what_is_being_committed_is_waited_for_before_a_resume_is_thrown_away(database, maria_url):
    """Whose connection broke at COMMIT does not know, and the server may be at it still."""
    await database.write(partial(store.insert_leads, submissions=[submission("a@x.com", blob="kept")]))
    assert await leads.is_kept(database, "kept")
    assert not await leads.is_kept(database, "unknown")
    with holding(maria_url, "UPDATE leads SET resume_path = 'under way'") as other:
        asked = asyncio.create_task(leads.is_kept(database, "under way"))
        await asyncio.sleep(BUSY_SECONDS / 5)
        assert not asked.done()
        other.commit()
        assert await asked
    with holding(maria_url, COPY) as other:
        asked = asyncio.create_task(leads.is_kept(database, "coming"))
        await asyncio.sleep(BUSY_SECONDS / 5)
        assert not asked.done()
        other.rollback()
        assert not await asked
    with holding(maria_url, "UPDATE leads SET resume_path = 'for too long'"), pytest.raises(Problem):
        await leads.is_kept(database, "for too long")
