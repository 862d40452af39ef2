"""`leads migrate` compares rows in stretches: none is left out, no table is forgotten."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.settings import MIGRATIONS as API_MIGRATIONS
from services.api.tables import Lead
from services.cli.migrate import rows
from services.cli.migrate.rooms import API_TABLES, FORGETTING, LEFT_BEHIND, NOTIFIER_TABLES
from services.cli.migrate.rows import Row, compared, plain, stretch
from services.notifier.settings import MIGRATIONS as NOTIFIER_MIGRATIONS
from shared.database import Database, table_of

ONE_SIDE = st.dictionaries(st.text("abä\U0001f600", min_size=0, max_size=3), st.integers(0, 1), max_size=12)


def next_rows(side: dict[str, int], key: str | None) -> list[Row]:
    """As a database answers: sorted by bytes, and cut off."""
    behind = [(one, value) for one, value in side.items() if key is None or one.encode() > key.encode()]
    return sorted(behind, key=lambda row: row[0].encode())[: rows.AT_ONCE]


@given(source=ONE_SIDE, target=ONE_SIDE)
def test_every_difference_of_two_sides_is_in_one_stretch_of_them(source, target):
    new, changed, gone, seen, key = [], [], [], [], None
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(rows, "AT_ONCE", 3)
        while True:
            found = stretch(next_rows(source, key), next_rows(target, key))
            new, changed, gone = new + found.new, changed + found.changed, gone + found.gone
            seen += found.source
            if found.through is None:
                break
            assert key is None or found.through > key
            key = found.through
    assert sorted(seen) == sorted(source)
    assert sorted(new) == sorted(source.keys() - target.keys())
    assert sorted(gone) == sorted(target.keys() - source.keys())
    assert sorted(changed) == sorted(one for one in source.keys() & target.keys() if source[one] != target[one])


@pytest.mark.parametrize(
    ("migrations", "classes"), [(API_MIGRATIONS, API_TABLES), (NOTIFIER_MIGRATIONS, NOTIFIER_TABLES)]
)
async def test_every_table_and_column_that_migrations_make_is_moved(tmp_path, migrations, classes):
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    await database.migrate(migrations)
    await database.close()
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        made = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        tables = [plain(table_of(one)) for one in classes]
        moved = {name for name in made if not name.startswith("sqlite_")} - LEFT_BEHIND
        assert moved == {"alembic_version", *(table.name for table in tables)}
        assert migrations != API_MIGRATIONS or made > LEFT_BEHIND
        for table in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")]
            assert sorted(columns) == sorted(table.columns.keys())


def test_tables_that_forget_are_among_those_that_move():
    assert set(FORGETTING) < {*API_TABLES, *NOTIFIER_TABLES}


def test_a_state_that_no_leads_knows_is_a_value_like_any_other():
    table = plain(table_of(Lead))
    assert str(table.columns.state.type) == "VARCHAR"
    assert list(table.columns.keys()) == list(table_of(Lead).columns.keys())
    assert compared([None, b"x", 1.5, "PENDING?"]) == (None, b"x", 1.5, "PENDING?")
