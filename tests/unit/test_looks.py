"""Looks that share a trip to the database: each is told its own, as new as its question, nobody holds up another."""

import asyncio
import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from shared import looks as module
from shared.database import Database
from shared.looks import Looks
from shared.problems import Problem, ProblemType

LONG_SECONDS = 5.0


class Trips:
    """A database's reads: their number, and one that is held until the test lets it go."""

    def __init__(self, database: Database, *, is_file: bool = True) -> None:
        self.is_file = is_file
        self._database = database
        self.begun = 0
        self.go_on = threading.Event()
        self.go_on.set()

    async def read(self, work):
        self.begun += 1
        first = self.begun == 1

        def held(session):
            if first:
                assert self.go_on.wait(LONG_SECONDS)
            return work(session)

        return await self._database.read(held)


@pytest.fixture
async def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'things.db'}")
    await database.write(lambda session: session.execute(text("CREATE TABLE things (name TEXT PRIMARY KEY)")))
    yield database
    await database.close()


@pytest.fixture
async def trips(database):
    return Trips(database)


@pytest.fixture
async def looks(trips):
    return Looks(trips)


def is_there(session, names):
    found = set(session.execute(text("SELECT name FROM things")).scalars())
    return [name in found for name in names]


def length(_session, names):
    return [len(name) for name in names]


def refuses_bad(_session, names):
    return [Problem(ProblemType.NOT_FOUND, f"no {name}") if name == "bad" else name for name in names]


def breaks_at_bad(_session, names):
    assert "bad" not in names
    return names


async def waiting(trips: Trips, count: int) -> None:
    async with asyncio.timeout(LONG_SECONDS):
        while trips.begun < count:
            await asyncio.sleep(0.005)


async def test_many_share_a_trip_and_each_is_told_its_own(looks: Looks, trips: Trips, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE_SECONDS", LONG_SECONDS)
    looks = Looks(trips)
    trips.go_on.clear()
    first = asyncio.create_task(looks.ask(length, "x"))
    await waiting(trips, 1)
    others = [asyncio.create_task(looks.ask(look, name)) for name in ("a", "bbb") for look in (length, is_there)]
    await asyncio.sleep(0.02)
    assert trips.begun == 1
    trips.go_on.set()
    assert await first == 1
    assert await asyncio.gather(*others) == [1, False, 3, False]
    assert trips.begun == 2


async def test_of_a_server_each_kind_of_question_makes_trips_of_its_own(database: Database):
    """It may refuse one kind, or keep it waiting, and not the others."""

    def refused(_session, _names):
        raise OperationalError("SELECT", {}, Exception("canceling statement due to statement timeout"))

    looks = Looks(Trips(database, is_file=False))
    asked = [looks.ask(refused, "x"), looks.ask(length, "four"), looks.ask(refused, "y"), looks.ask(length, "three")]
    first, four, second, five = await asyncio.gather(*asked, return_exceptions=True)
    assert (four, five) == (4, 5)
    assert isinstance(first, Problem)
    assert isinstance(second, Problem)


async def test_a_trip_is_no_heavier_than_it_may_be(database: Database):
    trips = Trips(database)
    looks = Looks(trips)
    trips.go_on.clear()
    asked = [asyncio.create_task(looks.ask(length, "heavy", weight=module.HEAVIEST_TRIP // 2)) for _ in range(5)]
    await waiting(trips, 1)
    trips.go_on.set()
    assert await asyncio.gather(*asked) == [5] * 5
    assert trips.begun == 3


async def test_what_was_written_before_the_question_is_seen(looks: Looks, database: Database):
    for number in range(20):
        name = f"name {number}"
        await database.write(lambda session, name=name: session.execute(text(f"INSERT INTO things VALUES ('{name}')")))
        assert all(await asyncio.gather(*(looks.ask(is_there, name) for _ in range(5))))


async def test_behind_a_look_that_takes_long_nobody_waits(looks: Looks, trips: Trips):
    trips.go_on.clear()
    slow = asyncio.create_task(looks.ask(length, "slow"))
    await waiting(trips, 1)
    async with asyncio.timeout(LONG_SECONDS / 2):
        assert await looks.ask(length, "quick!") == 6
    assert not slow.done()
    trips.go_on.set()
    assert await slow == 4


async def test_what_one_is_refused_for_is_no_neighbours_business(looks: Looks):
    asked = [looks.ask(refuses_bad, name) for name in ("good", "bad", "fine")]
    good, bad, fine = await asyncio.gather(*asked, return_exceptions=True)
    assert (good, fine) == ("good", "fine")
    assert isinstance(bad, Problem)
    assert bad.detail == "no bad"


async def test_a_look_that_fails_fails_for_whom_it_must(looks: Looks):
    asked = [looks.ask(breaks_at_bad, name) for name in ("good", "bad", "fine")]
    good, bad, fine, four = await asyncio.gather(*asked, looks.ask(length, "four"), return_exceptions=True)
    assert (good, fine, four) == ("good", "fine", 4)
    assert isinstance(bad, AssertionError)


async def test_when_the_database_is_away_each_gets_a_problem_of_its_own(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'none.db'}")
    looks = Looks(database)
    asked = [looks.ask(is_there, name) for name in ("a", "b")]
    first, second = await asyncio.gather(*asked, return_exceptions=True)
    await database.close()
    assert {type(first), type(second)} == {Problem}
    assert first is not second
    first.headers["Connection"] = "close"
    assert "Connection" not in second.headers
