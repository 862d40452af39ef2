"""Work on PostgreSQL: what returned is on the disk, and nobody sees half of it."""

import asyncio
import time
from functools import partial

import pytest
from sqlalchemy import text

from services.api import leads, store
from services.api.settings import MIGRATIONS as API_MIGRATIONS
from shared.problems import Problem, ProblemType
from tests.harness.postgresql import connected, query
from tests.harness.room_on_server import ADD, BUSY_SECONDS, COUNT, add, ask, opened
from tests.harness.submissions import submission

pytestmark = pytest.mark.postgresql


async def test_a_commit_is_on_the_disk_when_it_returns_whatever_the_database_would_rather(database, postgres_url):
    name = postgres_url.rpartition("/")[2]
    query(postgres_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    async with opened(postgres_url) as anew:
        assert await anew.write(ask("SHOW synchronous_commit")) == "on"
        assert await anew.write(ask("SHOW fsync")) == "on"


async def test_a_transaction_that_ended_is_seen_by_others_and_one_that_failed_never_was(database, postgres_url):
    await database.write(add("good"))

    def fail(session) -> None:
        add("bad")(session)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(fail)
    assert query(postgres_url, "SELECT email FROM api.users") == [("good",)]


async def test_readers_see_one_snapshot_and_can_write_nothing(database, postgres_url):
    def look_twice(session) -> tuple[int, int]:
        before = COUNT(session)
        query(postgres_url, ADD.format("api.", "meanwhile"))
        return before, COUNT(session)

    assert await database.read(look_twice) == (0, 0)
    assert await database.read(COUNT) == 1
    with pytest.raises(Problem) as caught:
        await database.read(add("never"))
    assert "read-only" in str(caught.value.__cause__)


async def test_a_locked_table_is_unavailable_in_time_and_for_a_while(database, postgres_url):
    async with connected(postgres_url) as other, other.transaction():
        await other.execute("LOCK TABLE api.users")
        began_at = time.monotonic()
        with pytest.raises(Problem) as caught:
            await database.write(add("never"))
        assert time.monotonic() - began_at < BUSY_SECONDS + 2
    assert caught.value.type is ProblemType.UNAVAILABLE
    assert caught.value.headers["Retry-After"] == "5"
    await database.write(add("later"))


async def test_of_two_that_wait_for_each_other_both_succeed(postgres_url):
    """PostgreSQL looks for deadlocks after a second: before anybody gives up waiting."""

    def lock(first: str, second: str, session) -> None:
        for name in (first, second):
            session.execute(text(f"UPDATE users SET token_version = token_version + 1 WHERE email = '{name}'"))
            session.execute(text("SELECT pg_sleep(0.2)"))

    async with opened(postgres_url) as database:
        await database.migrate(API_MIGRATIONS)
        for name in ("a", "b"):
            await database.write(add(name))
        await asyncio.gather(database.write(partial(lock, "a", "b")), database.write(partial(lock, "b", "a")))
        assert await database.read(ask("SELECT sum(token_version) FROM users")) == 6


async def test_who_goes_away_does_not_take_the_transaction_along(database):
    going = asyncio.create_task(database.write(lambda s: (add("kept")(s), s.execute(text("SELECT pg_sleep(0.3)")))))
    await asyncio.sleep(0.1)
    going.cancel()
    await database.close()
    assert going.cancelled()


async def test_what_is_being_committed_is_waited_for_before_a_resume_is_thrown_away(database, postgres_url):
    """Whose connection broke at COMMIT does not know, and the server may be at it still."""
    await database.write(partial(store.insert_leads, submissions=[submission("a@x.com", blob="kept")]))
    assert await leads.is_kept(database, "kept")
    assert not await leads.is_kept(database, "unknown")
    async with connected(postgres_url) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("UPDATE api.leads SET resume_path = 'under way'")
        asked = asyncio.create_task(leads.is_kept(database, "under way"))
        await asyncio.sleep(BUSY_SECONDS / 5)
        assert not asked.done()
        await transaction.commit()
        assert await asked
        async with other.transaction():
            await other.execute("UPDATE api.leads SET resume_path = 'for too long'")
            with pytest.raises(Problem):
                await leads.is_kept(database, "for too long")
