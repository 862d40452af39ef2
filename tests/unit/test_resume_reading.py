"""Whatever is wrong with one resume, the next one is read, and no api ends for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import pytest

from services.api import store
from services.api.resume_search import index, reading
from services.api.resume_search.reader import ReaderBroken, ReaderDied
from services.api.resume_search.reading import BIGGEST_BYTES, ResumeReading
from services.api.settings import MIGRATIONS
from shared.database import Database
from shared.ids import lowest_id
from shared.problems import Problem, ProblemType
from tests.harness.kept import rows
from tests.harness.submissions import submission

AWAY = Problem(ProblemType.UNAVAILABLE, "The storage is away.")


class Storage:
    """Gives every blob its id as its bytes, but those that are `missing` or `broken`."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.broken: set[str] = set()
        self.is_away = False
        self.asked: list[str] = []

    @asynccontextmanager
    async def get(self, blob_id: str, _range: str | None) -> AsyncIterator[SimpleNamespace]:
        self.asked.append(blob_id)
        if self.is_away or blob_id in self.broken:
            raise AWAY

        async def read() -> bytes:
            return blob_id.encode()

        yield SimpleNamespace(status=404 if blob_id in self.missing else 200, read=read)

    async def check(self) -> None:
        if self.is_away:
            raise RuntimeError("the storage is not ready")


class Reader:
    """Reads a word of each, unless it has `troubles` with it: errors to raise, one each time."""

    def __init__(self) -> None:
        self.troubles: dict[bytes, list[Exception]] = {}
        self.closed = False

    async def words_of(self, _kind: str, body: bytes) -> list[str]:
        if self.troubles.get(body):
            raise self.troubles[body].pop()
        return [body.decode()]

    async def close(self) -> None:
        self.closed = True


class House:
    """A database, and what reads the resumes of its leads."""

    def __init__(self, database: Database, path) -> None:
        self.database, self.path = database, path
        self.storage, self.reader = Storage(), Reader()
        self.reading = ResumeReading(database, self.storage, self.reader)  # type: ignore[arg-type]

    async def keep(self, *names: str, size_bytes: int = 1, made_at: datetime | None = None) -> None:
        """Leads, each with a blob of that name."""
        made = [submission(f"{name}@x.com", blob=name) for name in names]
        await self.database.write(partial(store.insert_leads, submissions=made))
        for name in names:
            new_id = [lowest_id(made_at)] if made_at else []
            for value, column in ((size_bytes, "resume_size_bytes"), *((one, "id") for one in new_id)):
                await self.database.write(
                    lambda session, value=value, column=column, name=name: session.connection().exec_driver_sql(
                        f"UPDATE leads SET {column} = ? WHERE resume_path = ?", (value, name)
                    )
                )

    def outcomes(self) -> dict[str, str]:
        """By the name of the blob."""
        query = "SELECT l.resume_path, t.outcome FROM resume_texts t JOIN leads l ON l.id = t.lead_id"
        return dict(rows(self.path, query))


@pytest.fixture
async def house(tmp_path) -> AsyncIterator[House]:
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    await database.migrate(MIGRATIONS)
    yield House(database, tmp_path / "a.db")
    await database.close()


async def test_one_that_the_storage_does_not_give_holds_up_nobody_and_is_asked_for_again_later(
    house: House, monkeypatch
):
    await house.keep("a", "b", "c", "d")
    house.storage.missing, house.storage.broken = {"a"}, {"c"}
    assert await house.reading.read_some() == 4
    assert house.outcomes() == {"b": "read", "d": "read"}
    await house.reading.read_some()
    assert house.storage.asked == ["a", "b", "c", "d"]  # let be for a while
    house.storage.missing, house.storage.broken = set(), set()
    monkeypatch.setattr(reading, "LOOK_AT_ALL_SECONDS", 0.0)
    house.reading._let_be_until.clear()
    await house.reading.read_some()
    assert house.outcomes() == dict.fromkeys("abcd", "read")


async def test_nothing_is_passed_over_while_the_storage_is_away(house: House):
    await house.keep("a", "b")
    house.storage.is_away = True
    with pytest.raises(RuntimeError):
        await house.reading.read_some()
    house.storage.is_away = False
    await house.reading.read_some()
    assert house.outcomes() == {"a": "read", "b": "read"}


async def test_a_resume_over_which_the_reader_dies_again_and_again_is_given_up(house: House, monkeypatch):
    monkeypatch.setattr(reading, "LOOK_AT_ALL_SECONDS", 0.0)
    await house.keep("deadly", "unlucky", "good")
    house.reader.troubles = {b"deadly": [ReaderDied()] * 5, b"unlucky": [ReaderDied()]}
    await house.reading.read_some()
    assert house.outcomes() == {"good": "read"}
    await house.reading.read_some()
    assert house.outcomes() == {"good": "read", "unlucky": "read"}
    await house.reading.read_some()
    assert house.outcomes() == {"good": "read", "unlucky": "read", "deadly": "unreadable"}


async def test_a_reader_that_does_not_start_is_no_fault_of_a_resume(house: House):
    await house.keep("a")
    house.reader.troubles = {b"a": [ReaderBroken("no memory")] * 5}
    for _ in range(5):
        with pytest.raises(ReaderBroken):
            await house.reading.read_some()
    await house.reading.read_some()
    assert house.outcomes() == {"a": "read"}


async def test_what_is_too_big_is_not_fetched(house: House):
    await house.keep("big", size_bytes=BIGGEST_BYTES + 1)
    await house.reading.read_some()
    assert (house.outcomes(), house.storage.asked) == ({"big": "unreadable"}, [])


async def test_it_goes_on_whatever_happens_and_closes_its_reader(house: House, monkeypatch, capsys):
    monkeypatch.setattr(reading, "REST_SECONDS", 0.01)
    await house.keep("a")
    house.reader.troubles = {b"a": [ZeroDivisionError("a defect")]}
    running = asyncio.create_task(house.reading.run())
    while house.outcomes() != {"a": "read"}:
        assert not running.done()
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert house.reader.closed
    assert "a defect" in capsys.readouterr().out


async def test_a_lead_that_is_committed_late_or_by_a_late_clock_is_read_too(house: House, monkeypatch):
    await house.keep("a")
    await house.reading.read_some()
    await house.keep("late", made_at=datetime.now(UTC) - timedelta(minutes=1))
    await house.reading.read_some()
    assert house.outcomes() == {"a": "read", "late": "read"}
    await house.keep("of yesterday", made_at=datetime.now(UTC) - timedelta(days=1))
    await house.reading.read_some()
    assert "of yesterday" not in house.outcomes()
    monkeypatch.setattr(reading, "LOOK_AT_ALL_SECONDS", 0.0)
    for _ in range(2):
        await house.reading.read_some()
    assert house.outcomes()["of yesterday"] == "read"


async def test_many_are_read_in_turn(house: House):
    names = [f"{number:02}" for number in range(45)]
    await house.keep(*names)
    assert [await house.reading.read_some() for _ in range(3)] == [20, 20, 5]
    assert house.outcomes() == dict.fromkeys(names, "read")
    assert await house.database.read(partial(index.unread, after="", limit=5)) == []
