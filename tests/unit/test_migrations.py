"""Migrations make exactly the tables that the classes describe, for each room's database, and know when to stop."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Enum, MetaData, create_engine
from sqlmodel import SQLModel

from shared.database import Database
from shared.schema import DatabaseUnfit, SchemaTooNew
from tests.harness.schemas import COMPARED, ROOMS


async def migrate(path: Path, migrations: Path) -> None:
    database = Database(f"sqlite:///{path}")
    try:
        await database.migrate(migrations)
    finally:
        await database.close()


def differences(path: Path, classes: tuple[type[SQLModel], ...]) -> list[object]:
    described = MetaData()
    for cls in classes:
        cls.__table__.to_metadata(described)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=COMPARED)
        found = compare_metadata(context, described)
    engine.dispose()
    return found


def schema(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        found = [row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql NOT NULL ORDER BY name")]
    connection.close()
    return found


def set_version(path: Path, version: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.close()


@ROOMS
async def test_migrations_make_what_the_classes_describe(tmp_path, setting, migrations, classes):
    await migrate(tmp_path / "a.db", migrations)
    assert differences(tmp_path / "a.db", classes) == []


@ROOMS
async def test_the_partial_index_of_the_outbox_and_every_other_is_the_same_either_way(
    tmp_path, setting, migrations, classes
):
    """Alembic does not compare what stands behind an index's WHERE."""
    await migrate(tmp_path / "migrated.db", migrations)
    described = MetaData()
    for cls in classes:
        cls.__table__.to_metadata(described)
    engine = create_engine(f"sqlite:///{tmp_path / 'described.db'}")
    described.create_all(engine)
    engine.dispose()
    assert indexes(tmp_path / "migrated.db") == indexes(tmp_path / "described.db")


def indexes(path: Path) -> set[str]:
    return {" ".join(sql.split()) for sql in schema(path) if sql.startswith("CREATE INDEX")}


@ROOMS
def test_no_column_has_a_type_that_postgresql_would_have_to_be_taught_first(setting, migrations, classes):
    """A native enum is a type of its own there, which no migration makes."""
    types = [column.type for cls in classes for column in cls.__table__.columns]
    assert not [type_ for type_ in types if isinstance(type_, Enum) and type_.native_enum]


@ROOMS
async def test_migrating_again_changes_nothing(tmp_path, setting, migrations, classes):
    path = tmp_path / "a.db"
    await migrate(path, migrations)
    before = schema(path)
    await migrate(path, migrations)
    assert schema(path) == before


@ROOMS
async def test_a_database_of_the_first_version_is_brought_up_to_date_and_keeps_its_rows(
    tmp_path, setting, migrations, classes
):
    first = tmp_path / "first" / "versions"
    first.mkdir(parents=True)
    shutil.copy(next(migrations.glob("0001_*.py")), first)
    await migrate(tmp_path / "old.db", first)
    table = classes[0].__tablename__
    fill(tmp_path / "old.db", table)
    await migrate(tmp_path / "old.db", migrations)
    assert rows(tmp_path / "old.db", table) == 1
    await migrate(tmp_path / "new.db", migrations)
    assert schema(tmp_path / "old.db") == schema(tmp_path / "new.db")


def fill(path: Path, table: str) -> None:
    """One row, whatever its columns are: SQLite minds no type."""
    with sqlite3.connect(path) as connection:
        columns = connection.execute(f"PRAGMA table_info({table})").fetchall()
        connection.execute(f"INSERT INTO {table} VALUES ({', '.join('?' for _ in columns)})", [1 for _ in columns])
    connection.close()


def rows(path: Path, table: str) -> int:
    with sqlite3.connect(path) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    connection.close()
    return count


@ROOMS
async def test_a_database_of_a_newer_version_is_left_alone_with_one_clear_line(tmp_path, setting, migrations, classes):
    path = tmp_path / "a.db"
    await migrate(path, migrations)
    set_version(path, "9999_of_tomorrow")
    before = schema(path)
    with pytest.raises(SchemaTooNew) as caught:
        await migrate(path, migrations)
    newest = max(file.stem for file in migrations.glob("*.py"))
    assert str(caught.value) == (
        f"LEADS_DATABASE_URL: {path} was written by a newer version of Leads (schema 9999_of_tomorrow; this one knows "
        f"up to {newest}): start that version, or restore a backup."
    )
    assert schema(path) == before


@ROOMS
async def test_tables_of_something_else_are_left_alone_with_one_clear_line(tmp_path, setting, migrations, classes):
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {classes[-1].__tablename__} (of_another_program TEXT)")
    connection.close()
    before = schema(path)
    with pytest.raises(DatabaseUnfit, match=r"LEADS_DATABASE_URL: .*a\.db has tables but no version"):
        await migrate(path, migrations)
    assert schema(path) == before


@ROOMS
def test_migrations_are_one_line_without_forks(setting, migrations, classes):
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(migrations.parent), version_locations=[str(migrations)])
    assert len(script.get_heads()) == len(script.get_bases()) == 1


@ROOMS
async def test_a_migration_that_fails_half_way_leaves_nothing_behind(tmp_path, setting, migrations, classes):
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE VIEW {classes[-1].__tablename__} AS SELECT 1")
    connection.close()
    with pytest.raises(Exception, match="already exists"):
        await migrate(path, migrations)
    assert len(schema(path)) == 1
