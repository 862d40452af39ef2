"""The schema on MariaDB: made once, finished where it was cut, and the same with whatever defaults the server has."""

import pytest
from alembic.ddl.mysql import MySQLImpl
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from services.api import tables as api
from services.api.settings import MIGRATIONS as API_MIGRATIONS
from services.notifier.settings import MIGRATIONS as NOTIFIER_MIGRATIONS
from shared.dialect import take_turns
from shared.engines import pool
from shared.problems import Problem
from shared.schema import VERSION_TABLE, DatabaseUnfit, SchemaTooNew, newest_version
from tests.harness.mariadb import query
from tests.harness.room_on_server import COUNT, NOTIFIER, add, ask, opened, started_at_once
from tests.harness.schemas import ROOMS

pytestmark = [pytest.mark.mariadb, pytest.mark.long]

OURS = f"table_schema = DATABASE() AND table_name <> '{VERSION_TABLE}'"


def shape(url: str) -> list[tuple[object, ...]]:
    """Every column and every index."""
    columns = query(
        url,
        "SELECT table_name, column_name, column_type, is_nullable, collation_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE() ORDER BY 1, 2",
    )
    indexes = query(
        url,
        "SELECT table_name, index_name, seq_in_index, column_name, non_unique FROM information_schema.statistics"
        " WHERE table_schema = DATABASE() ORDER BY 1, 2, 3",
    )
    return [*columns, *indexes]


@ROOMS
async def test_migrations_make_the_columns_of_the_classes_and_nothing_changes_the_second_time(
    maria_url, setting, migrations, classes
):
    async with opened(maria_url, setting) as database:
        await database.migrate(migrations)
        made = shape(maria_url)
        await database.migrate(migrations)
    found = query(maria_url, f"SELECT table_name, column_name FROM information_schema.columns WHERE {OURS}")
    described = {(cls.__table__.name, column.name) for cls in classes for column in cls.__table__.columns}
    assert set(found) == described | {("turns", "number")}
    assert shape(maria_url) == made


@ROOMS
async def test_no_default_of_the_server_is_left_to_chance(maria_url, setting, migrations, classes):
    async with opened(maria_url, setting) as database:
        await database.migrate(migrations)
    engines = query(maria_url, "SELECT DISTINCT engine FROM information_schema.tables WHERE table_schema = DATABASE()")
    assert engines == [("InnoDB",)]
    collations = query(
        maria_url,
        f"SELECT DISTINCT collation_name FROM information_schema.columns WHERE {OURS} AND collation_name IS NOT NULL",
    )
    assert collations == [("utf8mb4_bin",)]
    moments = query(maria_url, f"SELECT DISTINCT column_type FROM information_schema.columns WHERE {OURS} AND"
                    " column_type LIKE '%time%'")  # fmt: skip
    assert moments == [("datetime(6)",)]


@pytest.mark.long
@ROOMS
async def test_a_migration_that_is_cut_after_any_statement_is_finished_by_the_next(
    maria, setting, migrations, classes, monkeypatch
):
    """As a room is killed there: what it has done is committed, what it has not done is not."""
    whole = maria.add_database()
    async with opened(maria.url(whole), setting) as database:
        await database.migrate(migrations)
    wanted, statements = shape(maria.url(whole)), []
    plain = MySQLImpl._exec

    def counted(self, construct, *args, **kwargs):
        if len(statements) == cut_after:
            raise KilledError
        statements.append(construct)
        return plain(self, construct, *args, **kwargs)

    monkeypatch.setattr(MySQLImpl, "_exec", counted)
    cut_after = None
    async with opened(maria.url(maria.add_database()), setting) as database:
        await database.migrate(migrations)
    for cut_after in range(len(statements)):
        statements.clear()
        url = maria.url(maria.add_database())
        async with opened(url, setting) as database:
            with pytest.raises(KilledError):
                await database.migrate(migrations)
        cut_after = None  # noqa: PLW2901
        async with opened(url, setting) as database:
            await database.migrate(migrations)
        assert shape(url) == wanted
        assert query(url, "SELECT count(*) FROM turns") == [(1024,)]


class KilledError(Exception):
    pass


async def test_rooms_that_start_at_once_take_turns_at_the_migrations(maria_url):
    assert await started_at_once(maria_url) == [0, 0, 0]
    assert query(maria_url, "SELECT count(*) FROM alembic_version") == [(1,)]


async def test_a_migration_may_take_its_time_and_other_work_may_not(database, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "SILENCE_SECONDS", 0.5)
    await database._writer.run(lambda connection: None)
    (tmp_path / "0099_slow.py").write_text(
        "from alembic import op\nrevision = '0099_slow'\ndown_revision = "
        f"'{newest_version(API_MIGRATIONS)}'\nbranch_labels = depends_on = None\n"
        "def upgrade():\n    op.execute('DO SLEEP(1)')\n    op.execute('CREATE TABLE slow (limited double)')\n"
        "    op.execute('INSERT INTO slow VALUES (@@max_statement_time)')\n"
    )
    for path in API_MIGRATIONS.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    await database.migrate(tmp_path)
    assert await database.read(ask("SELECT limited FROM slow")) == 0
    assert await database.write(ask("SELECT @@max_statement_time")) == pool.STATEMENT_SECONDS
    with pytest.raises(Problem):
        await database.write(ask("SELECT SLEEP(2)"))


async def test_a_database_of_another_room_or_of_tomorrow_is_refused(database, maria_url):
    async with opened(maria_url, NOTIFIER) as other:
        with pytest.raises(SchemaTooNew, match=r"With MySQL each service needs a database of its own\.$"):
            await other.migrate(NOTIFIER_MIGRATIONS)
    query(maria_url, "UPDATE alembic_version SET version_num = '9999_from_tomorrow'")
    with pytest.raises(SchemaTooNew, match=r"LEADS_DATABASE_URL: 127\.0\.0\.1:\d+/test_\w+ was written by a newer"):
        await database.migrate(API_MIGRATIONS)


async def test_tables_that_are_not_ours_are_refused_and_left_alone(maria_url):
    query(maria_url, "CREATE TABLE invoices (id int)")
    async with opened(maria_url) as database:
        with pytest.raises(DatabaseUnfit, match="has tables but no version"):
            await database.migrate(API_MIGRATIONS)
    assert query(maria_url, "SHOW TABLES") == [("invoices",)]


async def test_turns_that_are_not_there_are_not_taken(database, maria_url):
    query(maria_url, "DELETE FROM turns")
    with pytest.raises(RuntimeError, match="the table turns has lost rows"):
        await database.write(lambda session: take_turns(session, ["one", "another"]))


async def test_a_unique_index_over_rows_that_are_alike_is_not_taken_for_done(database, tmp_path):
    for path in API_MIGRATIONS.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "0099_unique.py").write_text(
        "from alembic import op\nrevision = '0099_unique'\ndown_revision = "
        f"'{newest_version(API_MIGRATIONS)}'\nbranch_labels = depends_on = None\n"
        "def upgrade():\n    op.create_index('ix_users_role', 'users', ['role'], unique=True)\n"
    )
    for name in ("a", "b"):
        await database.write(add(name))
    with pytest.raises(IntegrityError):
        await database.migrate(tmp_path)


async def test_letters_of_all_kinds_and_instants_come_back_as_they_went_in(database, maria_url):
    name = "Zoë \N{GRINNING FACE}\\'\"%?"
    add = "INSERT INTO users VALUES (:email, 'x', 'staff', 1, '2026-11-28 10:00:00.123456', NULL)"

    def work(session):
        session.execute(text(add), {"email": name})
        return session.get(api.User, name)

    kept = await database.write(work)
    assert (kept.email, kept.created_at.microsecond, kept.created_at.hour) == (name, 123456, 10)
    assert await database.read(COUNT) == 1
    assert await database.read(lambda session: session.get(api.User, name.lower())) is None
