"""The schema on PostgreSQL: the same as the classes describe, made once, never half, each room its own."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData

from services.api.settings import MIGRATIONS as API_MIGRATIONS
from services.notifier.settings import MIGRATIONS as NOTIFIER_MIGRATIONS
from shared.problems import Problem
from shared.schema import DatabaseUnfit, SchemaTooNew
from tests.harness.postgresql import query
from tests.harness.room_on_server import COUNT, NOTIFIER, ask, opened, started_at_once
from tests.harness.schemas import COMPARED, ROOMS

pytestmark = pytest.mark.postgresql


@ROOMS
async def test_migrations_make_what_the_classes_describe(postgres_url, setting, migrations, classes):
    described = MetaData()
    for cls in classes:
        cls.__table__.to_metadata(described)

    def differences(connection):
        context = MigrationContext.configure(connection, opts=COMPARED)
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


async def test_rooms_that_start_at_once_take_turns_at_the_migrations(postgres_url):
    assert await started_at_once(postgres_url) == [0, 0, 0]
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
