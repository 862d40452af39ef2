"""The database: what returned is on the disk, what failed never happened, and nobody pays for a neighbour."""

import asyncio
import sqlite3
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError, OperationalError

from services.api import leads, store
from services.api.intake import Intake
from services.api.rate_counts import ProcessCounts
from services.api.rates import Rates
from services.api.resumes import DEFAULT_KINDS
from services.api.routes import intake_routes
from services.api.settings import MIGRATIONS, ApiSettings
from shared.database import LARGEST_GROUP, Database, GroupCommit
from shared.engines import turns
from shared.health import Health
from shared.problems import Problem, ProblemType
from shared.settings import SettingsError
from shared.tickets import Tickets
from shared.web import create_service
from tests.harness.asgi import post_form, sha256_of

BUSY_SECONDS = 0.3


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "folder" / "things.db"


@pytest.fixture
async def database(path, monkeypatch):
    monkeypatch.setattr(turns, "BUSY_TIMEOUT_SECONDS", BUSY_SECONDS)
    database = Database(f"sqlite:///{path}")
    await database.write(lambda session: session.execute(text("CREATE TABLE things (name TEXT PRIMARY KEY)")))
    yield database
    await database.close()


def insert(session, names) -> list[str]:
    """One statement each, so that a bad name fails in the middle of its group."""
    for name in names:
        session.execute(text("INSERT INTO things VALUES (:name)"), {"name": name})
    return [f"kept {name}" for name in names]


def on_disk(path: Path) -> list[str]:
    """What another process sees."""
    with sqlite3.connect(path) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM things ORDER BY rowid")]
    connection.close()
    return names


@contextmanager
def write_lock(path: Path):
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.close()


def ask(sql: str):
    """Work on a database that reads one value."""
    return lambda session: session.execute(text(sql)).scalar()


class Counted:
    """The database's transactions, counted, and stopped before the commit as long as the test wants."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.begun = 0
        self.may_commit = threading.Event()
        self.may_commit.set()

    async def write(self, work):
        self.begun += 1

        def wait_before_the_commit(session):
            outcome = work(session)
            assert self.may_commit.wait(5)
            return outcome

        return await self._database.write(wait_before_the_commit)


async def test_a_transaction_that_ended_is_seen_by_others_and_one_that_failed_never_was(database, path):
    await database.write(partial(insert, names=["good"]))

    def fail(session) -> None:
        insert(session, ["bad"])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(fail)
    assert on_disk(path) == ["good"]


async def test_a_commit_is_flushed_to_the_disk_before_it_returns(database):
    assert await database.write(ask("PRAGMA synchronous")) == 2, "FULL"
    assert await database.write(ask("PRAGMA journal_mode")) == "wal"


async def test_readers_can_write_nothing_and_do_not_wait_for_the_writer(database, path):
    with write_lock(path):
        assert await database.read(ask("SELECT count(*) FROM things")) == 0
        with pytest.raises(Problem) as caught:
            await database.read(lambda session: session.execute(text("DELETE FROM things")))
    assert "readonly" in str(caught.value.__cause__)


async def test_who_reads_and_then_writes_is_never_told_that_somebody_else_was_first(database, path):
    """Without `BEGIN IMMEDIATE` the second of two such transactions fails, however long it would wait."""

    def count_up(session) -> None:
        found = ask("SELECT count(*) FROM things")(session)
        time.sleep(0.01)
        insert(session, [f"thing {found}"])

    another_process = Database(f"sqlite:///{path}")
    await asyncio.gather(*(one.write(count_up) for one in (database, another_process) * 3))
    await another_process.close()
    assert await database.read(ask("SELECT count(DISTINCT name) FROM things")) == 6


async def test_a_locked_database_is_unavailable_in_time_and_for_a_while(database, path):
    with write_lock(path):
        began_at = time.monotonic()
        with pytest.raises(Problem) as caught:
            await database.write(partial(insert, names=["never"]))
        assert time.monotonic() - began_at < BUSY_SECONDS + 1
    assert caught.value.type is ProblemType.UNAVAILABLE
    assert caught.value.headers["Retry-After"] == "5"
    assert on_disk(path) == []


@pytest.mark.parametrize(
    "url",
    [
        "oracle+oracledb://localhost/leads",
        "mysql+asyncmy://localhost",
        "postgresql+asyncpg://localhost",
        "postgresql://leads:half@the:password@localhost/leads",
        "sqlite://",
        "sqlite:///:memory:",
        "x",
        "",
    ],
)
def test_a_database_that_is_not_offered_is_refused_in_one_line(url):
    with pytest.raises(SettingsError, match=r"LEADS_DATABASE_URL .*no other database is offered") as caught:
        Database(url)
    assert "\n" not in str(caught.value)


async def test_who_goes_away_does_not_hand_on_a_turn_that_is_still_being_used(database):
    """The next caller would wait in a queue without an end to it, instead of being told to come back."""
    done = threading.Event()
    gone = asyncio.create_task(database.write(lambda _session: done.wait(5)))
    await asyncio.sleep(0.05)
    gone.cancel()
    began_at = time.monotonic()
    with pytest.raises(Problem):
        await database.write(ask("SELECT 1"))
    assert time.monotonic() - began_at < BUSY_SECONDS + 1
    done.set()
    assert await database.write(ask("SELECT 1")) == 1


async def test_who_waits_for_a_turn_while_the_database_is_closed_is_told_to_come_back(path):
    database = Database(f"sqlite:///{path}")
    asked = [asyncio.create_task(database.write(lambda _session: time.sleep(0.1))) for _ in range(3)]
    await asyncio.sleep(0.05)
    await database.close()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert outcomes[0] is None
    assert [type(outcome) for outcome in outcomes[1:]] == [Problem, Problem]


async def test_an_iteration_that_ends_where_it_should_not_is_an_error_and_no_silence(database):
    with pytest.raises(RuntimeError, match="iteration"):
        async with asyncio.timeout(5):
            await database.write(lambda _session: next(iter(())))


async def test_outcomes_come_in_the_order_of_the_items_each_to_its_own(database, path):
    group = GroupCommit(database, insert)
    names = [f"thing {number}" for number in range(150)]
    assert await asyncio.gather(*(group.add(name) for name in names)) == [f"kept {name}" for name in names]
    assert on_disk(path) == names


async def test_items_that_come_together_share_commits_of_a_bounded_size(database):
    counted = Counted(database)
    sizes = []

    def flush(session, names):
        sizes.append(len(names))
        return insert(session, names)

    group = GroupCommit(counted, flush)
    await asyncio.gather(*(group.add(f"thing {number}") for number in range(150)))
    assert counted.begun == len(sizes) == 3
    assert max(sizes) == LARGEST_GROUP


async def test_an_outcome_is_known_only_after_the_commit(database, path):
    counted = Counted(database)
    counted.may_commit.clear()
    waiting = asyncio.create_task(GroupCommit(counted, insert).add("thing"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert on_disk(path) == []
    counted.may_commit.set()
    assert await waiting == "kept thing"
    assert on_disk(path) == ["thing"]


async def test_one_bad_item_does_not_refuse_its_neighbours(database, path):
    group = GroupCommit(database, insert)
    outcomes = await asyncio.gather(*(group.add(name) for name in ("a", "b", "a", "c")), return_exceptions=True)
    assert [outcomes[number] for number in (0, 1, 3)] == ["kept a", "kept b", "kept c"]
    assert isinstance(outcomes[2], IntegrityError)
    assert on_disk(path) == ["a", "b", "c"]


async def test_a_waiter_that_goes_away_takes_nobody_with_it(database, path):
    group = GroupCommit(database, insert)
    first, second, third = (asyncio.create_task(group.add(name)) for name in "abc")
    await asyncio.sleep(0)
    second.cancel()
    assert await asyncio.gather(first, third) == ["kept a", "kept c"]
    assert on_disk(path) == ["a", "b", "c"], "its work was under way: it is done, as after a lost answer"
    assert await group.add("d") == "kept d"


async def test_a_commit_that_fails_gives_its_error_to_all_and_keeps_nothing(database, path):
    break_commits(database)
    group = GroupCommit(database, insert)
    outcomes = await asyncio.gather(*(group.add(name) for name in "ab"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Problem, Problem]
    assert on_disk(path) == []


async def test_while_the_database_is_locked_nobody_waits_for_the_turns_of_those_before(database, path):
    group = GroupCommit(database, insert)
    waited = []

    async def add(number: int) -> None:
        await asyncio.sleep(number * BUSY_SECONDS / 4)
        began_at = time.monotonic()
        with pytest.raises(Problem):
            await group.add(f"thing {number}")
        waited.append(time.monotonic() - began_at)

    with write_lock(path):
        await asyncio.gather(*(add(number) for number in range(8)))
    assert max(waited) < 1.5 * BUSY_SECONDS
    assert await group.add("after that") == "kept after that"


async def test_a_lead_whose_commit_failed_is_never_answered_with_201(path, monkeypatch):
    """FastAPI leaves the exit of a `yield` dependency until after the answer: the commit must not live there."""
    database = Database(f"sqlite:///{path}")
    await database.migrate(MIGRATIONS)
    break_commits(database)
    discarded = []
    app = service(database, discarded)
    status, headers, _ = await post_form(app, "/leads", "ann@example.com")
    kept = await database.read(ask("SELECT count(*) FROM leads"))
    await database.close()
    assert (status, headers["retry-after"], kept, len(discarded)) == (503, "5", 0, 1)


def break_commits(database: Database) -> None:
    """Every COMMIT from now on fails as on a broken disk."""

    @event.listens_for(database._writer._engine, "commit")
    def broken(_connection) -> None:
        raise OperationalError("COMMIT", {}, sqlite3.OperationalError("disk I/O error"))


def service(database: Database, discarded: list[str]):
    """`POST /leads` over a storage that keeps what it hashes only."""

    async def put(_blob_id, chunks, _disposition):
        body = [chunk async for chunk in chunks]
        return SimpleNamespace(size_bytes=sum(map(len, body)), sha256=sha256_of(body))

    async def discard(blob_id) -> None:
        discarded.append(blob_id)

    @asynccontextmanager
    async def lifespan(_app):
        yield

    intake = Intake(
        SimpleNamespace(put=put, discard=discard),
        GroupCommit(database, store.insert_leads),
        is_kept=partial(leads.is_kept, database),
        resume_of=partial(leads.resume_of, database),
        wake_relay=lambda: None,
        concurrency=1,
        kinds=DEFAULT_KINDS,
    )
    app = create_service("api", Health({}), lifespan)
    tickets = Tickets("no secret")
    app.include_router(intake_routes(ApiSettings(intake_rate="off"), intake, tickets, Rates(ProcessCounts())))
    return app
