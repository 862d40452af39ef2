"""Rate limits count by the minute, whatever becomes of the wall clock; apis on one database count together."""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from limits import parse

from services.api.rate_counts import KEPT_SECONDS, DatabaseCounts, ProcessCounts
from services.api.rates import Rates
from services.api.settings import MIGRATIONS
from shared.database import Database
from shared.problems import Problem
from tests.harness.kept import rows

LIMIT = parse("3/minute")
WHO = "203.0.113.7"


@pytest.fixture
async def two_databases(tmp_path):
    """Two apis' views of one database."""
    async with AsyncExitStack() as stack:
        databases = [Database(f"sqlite:///{tmp_path / 'leads.db'}") for _ in range(2)]
        for database in databases:
            stack.push_async_callback(database.close)
            await database.migrate(MIGRATIONS)
        yield databases


@pytest.fixture(params=["process", "database"])
def counts(request):
    if request.param == "process":
        return ProcessCounts()
    return DatabaseCounts(request.getfixturevalue("two_databases")[0])


@pytest.mark.parametrize("jump_seconds", [3600, -86400])
async def test_a_clock_that_jumps_keeps_nobody_out(monkeypatch, counts, jump_seconds):
    rates = Rates(counts)
    for _ in range(3):
        await rates.hit(LIMIT, WHO)
    with pytest.raises(Problem):
        await rates.hit(LIMIT, WHO)
    jumped_at = time.time
    monkeypatch.setattr(time, "time", lambda: jumped_at() + jump_seconds)
    for _ in range(3):
        await rates.hit(LIMIT, WHO)
    with pytest.raises(Problem) as caught:
        await rates.hit(LIMIT, WHO)
    assert 1 <= int(caught.value.headers["Retry-After"]) <= 60


async def test_who_waits_for_the_window_to_end_is_let_in_again(monkeypatch, counts):
    rates, now = Rates(counts), time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    for _ in range(3):
        await rates.hit(LIMIT, WHO)
    with pytest.raises(Problem) as caught:
        await rates.hit(LIMIT, WHO)
    wait_seconds = int(caught.value.headers["Retry-After"])
    clock = time.monotonic()
    monkeypatch.setattr(time, "time", lambda: now + wait_seconds)
    monkeypatch.setattr(time, "monotonic", lambda: clock + wait_seconds)
    await rates.hit(LIMIT, WHO)


async def test_two_apis_on_one_database_let_through_what_one_would(two_databases):
    apis = [Rates(DatabaseCounts(database)) for database in two_databases]
    limit = parse("10/minute")

    async def passes(number: int) -> bool:
        try:
            await apis[number % 2].hit(limit, WHO)
        except Problem:
            return False
        return True

    assert sum(await asyncio.gather(*(passes(number) for number in range(40)))) == 10


async def test_a_clock_an_hour_ahead_loosens_the_limit_of_the_others_and_keeps_nobody_out(monkeypatch, two_databases):
    right, ahead = (Rates(DatabaseCounts(database)) for database in two_databases)
    now = time.time
    for _ in range(5):
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: now() + 3600)
            await ahead.hit(LIMIT, WHO)
        await right.hit(LIMIT, WHO)
    for _ in range(LIMIT.amount - 1):
        await right.hit(LIMIT, WHO)
    with pytest.raises(Problem):  # alone again, it counts as ever
        await right.hit(LIMIT, WHO)


async def test_no_address_is_kept_and_old_counts_are_removed(monkeypatch, two_databases, tmp_path):
    now = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now() - KEPT_SECONDS - 61)
        await Rates(DatabaseCounts(two_databases[0])).hit(LIMIT, "login", "old@example.com")
    assert "example" not in str(kept := rows(tmp_path / "leads.db", "SELECT * FROM rate_counts"))
    assert len(kept) == 1
    await Rates(DatabaseCounts(two_databases[1])).hit(LIMIT, WHO)
    assert rows(tmp_path / "leads.db", "SELECT uses FROM rate_counts") == [(1,)]


async def test_to_reset_or_clear_forgets(two_databases):
    counts = DatabaseCounts(two_databases[0])
    for key in ("a", "b"):
        await counts.incr(key, 60)
    await counts.clear("a")
    assert [await counts.get(key) for key in ("a", "b")] == [0, 1]
    await counts.reset()
    assert await counts.get("b") == 0
    assert await counts.check()
