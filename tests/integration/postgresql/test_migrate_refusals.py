"""What `leads migrate` refuses in one line: a source that is not whole, a target that is somebody's, a server away."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bench.audit import make
from services.cli.migrate import command
from services.cli.migrate.rooms import CannotMigrate
from services.cli.migrate.target import Target
from tests.harness.backups import the_line
from tests.harness.moves import LEADS, Site, in_postgresql, in_sqlite, leads, on_postgresql
from tests.harness.postgresql import query

pytestmark = [pytest.mark.postgresql, pytest.mark.long]


@pytest.mark.long
def test_rows_of_somebody_else_are_refused_and_left_alone(site: Site, capsys):
    assert leads("init", **on_postgresql(site.url)).returncode == 0  # makes a login
    before = in_postgresql(site.url)
    for finish in (False, True):
        assert site.migrate(finish=finish) == command.EXIT_FAILED
        assert "schema api has rows already" in capsys.readouterr().err
    assert in_postgresql(site.url)["users"] == before["users"]
    assert leads("users", "list").returncode == leads("users", "list", **on_postgresql(site.url)).returncode == 0


def test_a_copy_of_another_source_is_refused(site: Site, tmp_path: Path, monkeypatch, capsys):
    site.migrate()
    make(tmp_path / "other", LEADS)
    monkeypatch.setenv("LEADS_DATA_DIR", str(tmp_path / "other"))
    before = in_postgresql(site.url)
    capsys.readouterr()
    assert site.migrate(finish=True) == command.EXIT_FAILED
    assert "which the source has not" in the_line(capsys)
    assert in_postgresql(site.url) == before


def test_a_row_that_the_source_has_lost_is_refused_wherever_it_stands(site: Site, capsys):
    """As after a restore of an older backup: the target may be the only one that has it."""
    site.migrate()
    (lost,) = query(site.url, "SELECT id FROM leads ORDER BY id LIMIT 1 OFFSET 7")[0]
    site.change("leads.db", f"DELETE FROM leads WHERE id = '{lost}'")
    capsys.readouterr()
    assert site.migrate() == command.EXIT_FAILED
    assert f"leads has the row {lost}, which the source has not" in the_line(capsys)
    assert query(site.url, "SELECT count(*) FROM leads WHERE id = ?", lost) == [(1,)]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE alembic_version SET version_num = '9999_of_tomorrow'", "was written by a newer version of Leads"),
        ("UPDATE alembic_version SET version_num = '0001_first_tables'", "is of the older schema 0001_first_tables"),
        ("DROP TABLE alembic_version", "was not made by Leads"),
        ("DELETE FROM alembic_version", "was not made by Leads"),
        ("CREATE TABLE alembic_version_moved (x)", "has the table `alembic_version_moved`, as no Leads made it"),
        ("CREATE TABLE notes (x TEXT)", "has the table `notes`, as no Leads made it"),
        ("ALTER TABLE leads ADD COLUMN note TEXT", "has the column of leads `note`"),
    ],
)
def test_a_source_that_would_not_be_moved_whole_is_refused_before_anything_is_made(site: Site, capsys, statement, said):
    site.change("leads.db", statement)
    assert site.migrate() == command.EXIT_FAILED
    assert said in the_line(capsys)
    schemas = query(site.url, "SELECT nspname FROM pg_namespace WHERE nspname IN ('api', 'notifier')")
    assert schemas == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE leads SET first_name = 'A' || char(0) WHERE version = 2", "schema api, leads: cannot take it"),
        ("UPDATE leads SET version = 'many' WHERE version = 2", "schema api, leads: cannot take it"),
        ("UPDATE leads SET created_at = 'soon' WHERE version = 2", "created_at is no moment in time"),
        (
            "UPDATE leads SET created_at = '0001-01-01 00:00:00+05:00' WHERE version = 2",
            "created_at is no moment in time",
        ),
        (
            "UPDATE leads SET created_at = '9999-12-31 23:59:59-05:00' WHERE version = 2",
            "created_at is no moment in time",
        ),
    ],
)
def test_a_value_that_postgresql_cannot_keep_is_one_line(site: Site, capsys, statement, said):
    site.change("leads.db", statement)
    assert site.migrate() == command.EXIT_FAILED
    line = the_line(capsys)
    assert said in line
    assert "many" not in line  # what is in a row is somebody's data


def test_a_target_of_a_newer_leads_is_refused(site: Site, capsys):
    site.migrate()
    query(site.url, "UPDATE api.alembic_version_unfinished SET version_num = '9999_of_tomorrow'")
    capsys.readouterr()
    assert site.migrate(finish=True) == command.EXIT_FAILED
    assert "was written by a newer version of Leads" in the_line(capsys)


def test_a_damaged_index_does_not_hide_a_row(site: Site, capsys):
    site.migrate()
    with closing(sqlite3.connect(site.data / "leads.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET sql = replace(sql, 'state,', 'version,')"
                           " WHERE name = 'ix_leads_state_created_at'")  # fmt: skip
    capsys.readouterr()
    assert site.migrate(finish=True) == command.EXIT_FAILED
    assert "leads.db is damaged" in the_line(capsys)


@pytest.mark.parametrize("finish", [False, True])
def test_a_server_that_is_away_or_refuses_us_is_one_line(site: Site, postgres, monkeypatch, capsys, finish):
    before = site.dumps()
    for url, said in (
        (postgres.url("leads", password="s3cret", port=1), "127.0.0.1:1/leads, schema api does not answer"),
        (postgres.url("leads", password="s3cret"), "refused the login"),
    ):
        monkeypatch.setenv("LEADS_MIGRATE_TO_URL", url)
        assert site.migrate(finish=finish) == command.EXIT_FAILED
        line = the_line(capsys)
        assert said in line
        assert line.startswith("leads: LEADS_MIGRATE_TO_URL: 127.0.0.1:")
        assert "s3cret" not in line
    assert site.dumps() == before


def test_what_cannot_be_asked_for_is_one_line(site: Site, monkeypatch, capsys, tmp_path: Path):
    assert command.run(source="mysql", target="postgresql", is_last=False) == command.EXIT_FAILED
    assert "--from must be sqlite" in the_line(capsys)
    assert command.run(source="sqlite", target="mysql://x/y", is_last=False) == command.EXIT_FAILED
    assert "--to must be postgresql+asyncpg://" in the_line(capsys)
    for url in ("postgresql://x:s3cret@y", "postgresqls://x:s3cret@y/z", "postgresql://x:s3cret@y:port/z"):
        assert command.run(source="sqlite", target=url, is_last=False) == command.EXIT_FAILED
        assert the_line(capsys).startswith(
            "leads: --to must be postgresql+asyncpg://user@host/database: there is no way"
        )
    monkeypatch.setenv("LEADS_MIGRATE_TO_URL", "")
    assert site.migrate() == command.EXIT_FAILED
    assert "LEADS_MIGRATE_TO_URL is not set" in the_line(capsys)
    (tmp_path / "url").write_text(site.url)
    monkeypatch.setenv("LEADS_MIGRATE_TO_URL_FILE", str(tmp_path / "url"))
    for setting in ("LEADS_DATABASE_URL", "LEADS_NOTIFIER_DATABASE_URL"):
        monkeypatch.setenv(setting, site.url)
    assert site.migrate() == command.EXIT_FAILED
    assert "there is nothing to move" in the_line(capsys)
    monkeypatch.setenv("LEADS_DATABASE_URL", f"sqlite:///{tmp_path / 'none.db'}")
    assert site.migrate() == command.EXIT_FAILED
    assert "there is no database" in the_line(capsys)
    assert not (tmp_path / "none.db").exists()


def test_a_folder_that_is_closed_to_us_is_one_line(site: Site, monkeypatch, capsys):
    def closed(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", closed)  # root, who runs tests in containers, may look anywhere
    assert site.migrate() == command.EXIT_FAILED
    assert "leads.db cannot be opened: check that it is a file" in the_line(capsys)


@pytest.mark.long
def test_what_was_moved_is_not_finished_in_another_database(site: Site, postgres, monkeypatch, capsys):
    """Else a move that was cut short would look done, and half of it would be where nobody looks for it."""

    async def killed(_self):
        raise CannotMigrate("killed")

    with monkeypatch.context() as patched:
        patched.setattr(Target, "release", killed)
        site.migrate(finish=True)
    capsys.readouterr()
    elsewhere = postgres.url(postgres.add_database())
    monkeypatch.setenv("LEADS_MIGRATE_TO_URL", elsewhere)
    for _ in range(2):  # nothing is there, then the rows of others
        assert site.migrate(finish=True) == command.EXIT_FAILED
        assert "leads.db was moved, and not to" in the_line(capsys)
        assert leads("init", **on_postgresql(elsewhere)).returncode == 0
    monkeypatch.setenv("LEADS_MIGRATE_TO_URL", site.url)
    assert site.migrate(finish=True) == 0
    assert in_postgresql(site.url) == in_sqlite(site.data)
    assert site.migrate() == 0
    assert "Moved already." in capsys.readouterr().out


def test_settings_that_were_changed_too_early_are_said_to_be_that(site: Site, monkeypatch, capsys):
    for setting, url in on_postgresql(site.url).items():
        monkeypatch.setenv(setting, url)
    assert site.migrate(finish=True) == command.EXIT_FAILED
    assert "To finish a move, leave them as they were before it." in the_line(capsys)
