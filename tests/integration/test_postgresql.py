"""PostgreSQL under a room's database: what returned is on the disk, what is away comes back, what is wrong is said."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from functools import partial

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, text

from services.api import leads, store
from services.api import tables as api
from services.api.settings import MIGRATIONS as API_MIGRATIONS
from services.notifier import tables as notifier
from services.notifier.settings import MIGRATIONS as NOTIFIER_MIGRATIONS
from shared.database import Database
from shared.engines import postgresql as engine
from shared.engines import turns
from shared.outbox import OutboxEvent
from shared.problems import Problem, ProblemType
from shared.schema import DatabaseBroken, DatabaseUnfit, SchemaTooNew
from tests.harness.missing import cannot_run
from tests.harness.postgresql import MISSING, PostgresServer, find_postgresql, query
from tests.harness.submissions import submission

pytestmark = pytest.mark.postgresql

BUSY_SECONDS = 0.5
API, NOTIFIER = "LEADS_DATABASE_URL", "LEADS_NOTIFIER_DATABASE_URL"
ROOMS = pytest.mark.parametrize(
    ("setting", "migrations", "classes"),
    [
        pytest.param(
            API,
            API_MIGRATIONS,
            (api.Lead, api.IdempotencyKey, api.User, api.AuditRun, api.RateCount, OutboxEvent),
            id="api",
        ),
        pytest.param(NOTIFIER, NOTIFIER_MIGRATIONS, (notifier.Email,), id="notifier"),
    ],
)


@asynccontextmanager
async def opened(url: str, setting: str = API):
    database = Database(url, setting=setting)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def database(postgres_url, monkeypatch):
    monkeypatch.setattr(turns, "BUSY_TIMEOUT_SECONDS", BUSY_SECONDS)
    async with opened(postgres_url) as database:
        await database.migrate(API_MIGRATIONS)
        yield database


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """For tests that do it harm."""
    if find_postgresql() is None:
        cannot_run(MISSING)
    server = PostgresServer()
    yield server
    server.remove()


def ask(sql: str):
    return lambda session: session.execute(text(sql)).scalar()


COUNT = ask("SELECT count(*) FROM users")
ADD = "INSERT INTO {}users VALUES ('{}', '', 'staff', 1, now(), NULL)"


def add(name: str):
    return lambda session: session.execute(text(ADD.format("", name)))


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
    async with raw(postgres_url) as other, other.transaction():
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


async def test_a_restart_is_not_noticed_by_who_asks_after_it(own_server):
    async with opened(own_server.url(own_server.add_database())) as database:
        await database.migrate(API_MIGRATIONS)
        await database.write(add("before"))
        await database.read(COUNT)
        own_server.restart()
        await asyncio.sleep(0.1)
        await database.write(add("after"))
        assert await database.read(COUNT) == 2


@pytest.mark.long
async def test_a_server_that_is_killed_is_unavailable_until_it_is_back_and_lost_nothing(own_server):
    async with opened(own_server.url(own_server.add_database())) as database:
        await database.migrate(API_MIGRATIONS)
        await database.write(add("before"))
        asleep = asyncio.create_task(database.write(lambda session: session.execute(text("SELECT pg_sleep(60)"))))
        await asyncio.sleep(0.3)
        own_server.kill()
        for cut in (asleep, database.write(add("never")), database.read(COUNT)):
            with pytest.raises(Problem) as caught:
                await cut
            assert caught.value.type is ProblemType.UNAVAILABLE
        starting = asyncio.create_task(asyncio.to_thread(own_server.start))
        while not starting.done():
            await asyncio.sleep(0.05)
        await database.write(add("after"))
        assert await database.read(COUNT) == 2


@pytest.mark.long
async def test_a_server_that_comes_back_in_time_is_waited_for(own_server):
    async with opened(own_server.url(own_server.add_database())) as database:
        await database.migrate(API_MIGRATIONS)
        own_server.kill()
        monotonic = time.monotonic()
        asked = asyncio.create_task(retried(database, add("waited for")))
        await asyncio.to_thread(own_server.start)
        await asked
        assert time.monotonic() - monotonic < 60
        assert await database.read(COUNT) == 1


async def retried(database: Database, work) -> None:
    """As relay, notifier and clients do it."""
    while True:
        try:
            return await database.write(work)
        except Problem:
            await asyncio.sleep(0.1)


@pytest.mark.long
async def test_a_frozen_server_is_noticed_and_no_connection_hangs_on_it_for_good(own_server, monkeypatch):
    monkeypatch.setattr(engine, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(engine, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(turns, "BUSY_TIMEOUT_SECONDS", BUSY_SECONDS)
    async with opened(own_server.url(own_server.add_database())) as database:
        await database.migrate(API_MIGRATIONS)
        await database.write(add("before"))
        own_server.pause()
        try:
            async with asyncio.timeout(30):
                for _ in range(2):
                    with pytest.raises(Problem):
                        await database.write(add("never"))
        finally:
            own_server.resume()
        async with asyncio.timeout(30):
            await retried(database, add("after"))
        assert query(database_url_of(database), "SELECT email FROM api.users ORDER BY 1")[0] == ("after",)


@pytest.mark.long
async def test_a_frozen_server_keeps_nobody_who_closes(own_server):
    """Neither with what it has in hand, nor by not saying goodbye."""
    database = Database(own_server.url(own_server.add_database()))
    await database.migrate(API_MIGRATIONS)
    await asyncio.gather(*(database.read(COUNT) for _ in range(3)))
    own_server.pause()
    try:
        in_hand = asyncio.create_task(database.write(add("in doubt")))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            await database.close()
            with pytest.raises(Problem):
                await in_hand
    finally:
        own_server.resume()


def database_url_of(database: Database) -> str:
    return database._writer._engine.url.render_as_string(hide_password=False)


async def test_what_is_being_committed_is_waited_for_before_a_resume_is_thrown_away(database, postgres_url):
    """Whose connection broke at COMMIT does not know, and the server may be at it still."""
    await database.write(partial(store.insert_leads, submissions=[submission("a@x.com", blob="kept")]))
    assert await leads.is_kept(database, "kept")
    assert not await leads.is_kept(database, "unknown")
    async with raw(postgres_url) as other:
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


@ROOMS
async def test_migrations_make_what_the_classes_describe(postgres_url, setting, migrations, classes):
    described = MetaData()
    for cls in classes:
        cls.__table__.to_metadata(described)

    def differences(connection):
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return compare_metadata(context, described)

    async with opened(postgres_url, setting) as database:
        await database.migrate(migrations)
        assert await database._readers.run(differences) == []
        await database.migrate(migrations)


async def test_text_is_sorted_by_its_bytes_in_every_column(database, postgres_url):
    async with opened(postgres_url, NOTIFIER) as other:
        await other.migrate(NOTIFIER_MIGRATIONS)
    found = query(
        postgres_url,
        "SELECT table_schema, table_name, column_name FROM information_schema.columns WHERE table_schema IN"
        " ('api', 'notifier') AND table_name <> 'alembic_version' AND data_type = 'character varying'"
        " AND collation_name IS DISTINCT FROM 'C'",
    )
    assert found == []


async def test_both_rooms_share_one_database_and_neither_sees_the_tables_of_the_other(database, postgres_url):
    async with opened(postgres_url, NOTIFIER) as other:
        await other.migrate(NOTIFIER_MIGRATIONS)
        assert await other.read(ask("SELECT count(*) FROM emails")) == 0
        with pytest.raises(Problem):
            await other.read(COUNT)
        with pytest.raises(Problem):
            await database.read(ask("SELECT count(*) FROM emails"))


STARTS = """
import asyncio, sys
from services.api.settings import MIGRATIONS
from shared.database import Database
async def main():
    database = Database(sys.argv[1])
    await database.migrate(MIGRATIONS)
    await database.close()
asyncio.run(main())
"""


async def test_rooms_that_start_at_once_take_turns_at_the_migrations(postgres_url):
    rooms = [await asyncio.create_subprocess_exec(sys.executable, "-c", STARTS, postgres_url) for _ in range(3)]
    assert [await room.wait() for room in rooms] == [0, 0, 0]
    versions = query(postgres_url, "SELECT count(*) FROM api.alembic_version")
    assert versions == [(1,)]


async def test_a_database_of_a_newer_version_is_refused(database, postgres_url):
    query(postgres_url, "UPDATE api.alembic_version SET version_num = '9999_from_tomorrow'")
    with pytest.raises(SchemaTooNew, match=r"LEADS_DATABASE_URL: 127\.0\.0\.1:\d+/test_\w+ was written by a newer"):
        await database.migrate(API_MIGRATIONS)


async def test_a_schema_that_is_not_ours_is_refused_and_left_alone(postgres_url):
    query(postgres_url, "CREATE SCHEMA api")
    query(postgres_url, "CREATE TABLE api.invoices (id int)")
    async with opened(postgres_url) as database:
        with pytest.raises(DatabaseUnfit, match="has tables but no version"):
            await database.migrate(API_MIGRATIONS)
    assert query(postgres_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'api'") == [("invoices",)]


async def test_a_migration_that_fails_leaves_nothing_half_made(postgres_url, tmp_path):
    for path in API_MIGRATIONS.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "0099_broken.py").write_text(
        "from alembic import op\nrevision = '0099_broken'\ndown_revision = "
        f"'{max(path.stem for path in API_MIGRATIONS.glob('*.py'))}'\nbranch_labels = depends_on = None\n"
        "def upgrade():\n    op.execute('CREATE TABLE half (id int)')\n    op.execute('SELECT 1 / 0')\n"
    )
    async with opened(postgres_url) as database:
        with pytest.raises(Exception, match="division by zero"):
            await database.migrate(tmp_path)
    assert query(postgres_url, "SELECT schema_name FROM information_schema.schemata WHERE schema_name = 'api'") == []


async def refused(url: str, kind: type[Exception], words: str) -> None:
    async with opened(url) as database:
        with pytest.raises(kind, match=words) as caught:
            await database.migrate(API_MIGRATIONS)
    assert caught.type is kind
    told = str(caught.value)
    assert told.startswith("LEADS_DATABASE_URL: 127.0.0.1:")
    assert "\n" not in told
    assert "s3cret" not in told


async def test_what_is_wrong_with_the_url_is_said_and_not_tried_again(postgres, postgres_url):
    name = postgres_url.rpartition("/")[2]
    await refused(postgres.url(name, password="s3cret"), DatabaseUnfit, "refused the login: check the user")
    await refused(postgres.url("nowhere"), DatabaseUnfit, "does not exist: make it with `createdb`")


async def test_a_user_who_may_make_no_schema_is_told_so(postgres, postgres_url):
    name = postgres_url.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} OWNER TO postgres")
    await refused(postgres_url, DatabaseUnfit, "does not let the user of the URL do what Leads must")
    postgres.execute("CREATE SCHEMA api AUTHORIZATION leads", name)
    async with opened(postgres_url) as database:
        await database.migrate(API_MIGRATIONS)


async def test_a_database_that_may_only_be_read_is_told_so(postgres, postgres_url):
    name = postgres_url.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await refused(postgres_url, DatabaseUnfit, "may only be read: is it a standby")


async def test_a_server_that_is_away_or_full_of_connections_may_be_there_later(postgres, postgres_url, monkeypatch):
    monkeypatch.setattr(turns, "BUSY_TIMEOUT_SECONDS", BUSY_SECONDS)
    name = postgres_url.rpartition("/")[2]
    await refused(postgres.url(name, port=1), DatabaseBroken, "does not answer: check that PostgreSQL runs there")
    postgres.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 1")
    async with raw(postgres_url):
        await refused(postgres_url, DatabaseBroken, "has no connection left: raise max_connections")


@asynccontextmanager
async def raw(url: str):
    """A connection of somebody else."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        yield connection
    finally:
        await connection.close()
