"""A database server that is restarted, killed or frozen: unavailable for a while at most, and nothing is lost."""

import asyncio
import time

import pytest
from sqlalchemy import text
from sqlalchemy.util import await_only

from services.api.settings import MIGRATIONS as API_MIGRATIONS
from shared.database import Database
from shared.engines import mysql, pool, postgresql, turns
from shared.problems import Problem, ProblemType
from tests.harness.kept import rows
from tests.harness.mariadb import MISSING as NO_MARIADB
from tests.harness.mariadb import MariaServer, find_mariadb
from tests.harness.missing import cannot_run
from tests.harness.postgresql import MISSING as NO_POSTGRESQL
from tests.harness.postgresql import PostgresServer, find_postgresql
from tests.harness.room_on_server import BUSY_SECONDS, COUNT, add, ask, opened

SLEEP = {PostgresServer: "SELECT pg_sleep(60)", MariaServer: "DO SLEEP(60)"}


@pytest.fixture(
    params=[
        pytest.param(PostgresServer, marks=pytest.mark.postgresql, id="postgresql"),
        pytest.param(MariaServer, marks=pytest.mark.mariadb, id="mariadb"),
    ]
)
def server(request):
    """One of each kind, that may come to harm."""
    if request.param is PostgresServer and find_postgresql() is None:
        cannot_run(NO_POSTGRESQL)
    if request.param is MariaServer and not find_mariadb():
        cannot_run(NO_MARIADB)
    server = request.param()
    yield server
    server.remove()


async def test_a_restart_is_not_noticed_by_who_asks_after_it(server):
    async with opened(server.url(server.add_database())) as database:
        await database.migrate(API_MIGRATIONS)
        await database.write(add("before"))
        await database.read(COUNT)
        server.restart()
        await asyncio.sleep(0.1)
        await database.write(add("after"))
        assert await database.read(COUNT) == 2


@pytest.mark.long
async def test_a_server_that_is_killed_is_unavailable_until_it_is_back_and_lost_nothing(server):
    async with opened(server.url(server.add_database())) as database:
        await database.migrate(API_MIGRATIONS)
        await database.write(add("before"))
        asleep = asyncio.create_task(database.write(lambda session: session.execute(text(SLEEP[type(server)]))))
        await asyncio.sleep(0.3)
        server.kill()
        for cut in (asleep, database.write(add("never")), database.read(COUNT)):
            with pytest.raises(Problem) as caught:
                await cut
            assert caught.value.type is ProblemType.UNAVAILABLE
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        while not starting.done():
            await asyncio.sleep(0.05)
        await database.write(add("after"))
        assert await database.read(COUNT) == 2


@pytest.mark.long
async def test_a_server_that_comes_back_in_time_is_waited_for(server):
    async with opened(server.url(server.add_database())) as database:
        await database.migrate(API_MIGRATIONS)
        server.kill()
        monotonic = time.monotonic()
        asked = asyncio.create_task(retried(database, add("waited for")))
        await asyncio.to_thread(server.start)
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
async def test_a_frozen_server_is_noticed_and_no_connection_hangs_on_it_for_good(server, monkeypatch):
    monkeypatch.setattr(pool, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(turns, "BUSY_TIMEOUT_SECONDS", BUSY_SECONDS)
    async with opened(server.url(server.add_database())) as database:
        await database.migrate(API_MIGRATIONS)
        await database.write(add("before"))
        in_a_statement = asyncio.create_task(database.write(ask(SLEEP[type(server)])))
        await asyncio.sleep(0.3)
        server.pause()
        try:
            async with asyncio.timeout(30):
                with pytest.raises(Problem):
                    await in_a_statement
                for _ in range(2):
                    with pytest.raises(Problem):
                        await database.write(add("never"))
        finally:
            server.resume()
        async with asyncio.timeout(30):
            await retried(database, add("after"))
        assert rows(database_url_of(database), "SELECT email FROM users ORDER BY 1")[0] == ("after",)


@pytest.mark.long
async def test_who_lost_its_power_gives_back_its_locks(server, monkeypatch):
    """It is frozen here: to the server that is the same."""
    for engine in (mysql, postgresql):
        monkeypatch.setattr(engine, "IDLE_SECONDS", 1)
    url = server.url(server.add_database())
    async with opened(url) as lost, opened(url) as other:
        await lost.migrate(API_MIGRATIONS)
        await lost.write(add("a"))
        change = text("UPDATE users SET token_version = token_version + 1")

        async def freeze(seconds: float) -> None:
            await asyncio.sleep(seconds)

        def begin_and_say_no_more(session):
            session.execute(change)
            await_only(freeze(3))

        frozen = asyncio.create_task(lost.write(begin_and_say_no_more))
        await asyncio.sleep(0.3)
        async with asyncio.timeout(2.5):
            await retried(other, lambda session: session.execute(change))
        with pytest.raises(Problem):
            await frozen
        assert await other.read(ask("SELECT token_version FROM users")) == 2


@pytest.mark.long
async def test_a_frozen_server_keeps_nobody_who_closes(server):
    """Neither with what it has in hand, nor by not saying goodbye."""
    database = Database(server.url(server.add_database()))
    await database.migrate(API_MIGRATIONS)
    await asyncio.gather(*(database.read(COUNT) for _ in range(3)))
    server.pause()
    try:
        in_hand = asyncio.create_task(database.write(add("in doubt")))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            await database.close()
            with pytest.raises(Problem):
                await in_hand
    finally:
        server.resume()


def database_url_of(database: Database) -> str:
    return database._writer._engine.url.render_as_string(hide_password=False)
