"""`leads migrate` on real files and a real server: all rows or none, compared, into nobody else's database."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.audit import make
from services.cli.migrate import command
from services.cli.migrate.rooms import CannotMigrate
from services.cli.migrate.target import Target
from tests.harness.backups import dump, the_line
from tests.harness.deployment import ROOT
from tests.harness.moves import TABLES, enrich, in_postgresql, in_sqlite, run
from tests.harness.postgresql import query

pytestmark = pytest.mark.postgresql

LEADS = 30
MANY = 4000
"""Enough that a move of them can be killed in the middle."""

CHILD_SECONDS = 100.0


@dataclass(frozen=True)
class Site:
    """A data folder on SQLite, and the URL to move to."""

    data: Path
    url: str

    def migrate(self, *, finish: bool = False) -> int:
        return command.run(source="sqlite", target="postgresql", is_last=finish)

    def change(self, file: str, statement: str) -> None:
        run(self.data / file, statement)

    def dumps(self) -> list[list[str]]:
        return [dump(self.data / file) for file in TABLES]


@pytest.fixture
def site(tmp_path: Path, postgres_url: str, monkeypatch) -> Site:
    monkeypatch.setattr(command, "configure_logs", lambda *_: None)
    make(tmp_path / "data", LEADS)
    enrich(tmp_path / "data")
    monkeypatch.setenv("LEADS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LEADS_MIGRATE_TO_URL", postgres_url)
    return Site(tmp_path / "data", postgres_url)


def leads(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command, with the settings of this process and these."""
    child = subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300", **settings},
        capture_output=True,
        text=True,
        timeout=CHILD_SECONDS,
        check=False,
    )
    assert "Traceback" not in child.stderr
    return child


def on_postgresql(url: str) -> dict[str, str]:
    return dict.fromkeys(("LEADS_DATABASE_URL", "LEADS_NOTIFIER_DATABASE_URL"), url)


def test_every_row_is_moved_with_its_values(site: Site, capsys):
    before = in_sqlite(site.data)
    assert all(before.values())
    assert site.migrate(finish=True) == 0
    assert in_postgresql(site.url) == before == in_sqlite(site.data)
    output = capsys.readouterr().out
    assert "Set LEADS_DATABASE_URL and LEADS_NOTIFIER_DATABASE_URL to the URL of LEADS_MIGRATE_TO_URL" in output
    assert output.count("equal") == len(before)


def test_a_run_brings_over_what_is_new_changed_and_gone_since_the_last(site: Site, capsys):
    assert site.migrate() == 0
    assert in_postgresql(site.url) == in_sqlite(site.data)
    capsys.readouterr()
    assert site.migrate() == 0
    assert "0 rows brought over" in capsys.readouterr().out

    site.change("leads.db", "UPDATE leads SET state = 'REACHED_OUT', version = 9 WHERE version = 1")
    site.change("leads.db", "UPDATE outbox SET published_at = '2026-03-01 00:00:00.000001' WHERE published_at IS NULL")
    site.change("leads.db", "DELETE FROM idempotency_keys")
    site.change("leads.db", "INSERT INTO idempotency_keys VALUES ('k-2', 'p', 'l', 'a', '2026-01-02 03:04:05')")
    site.change("notifier.db", "UPDATE emails SET state = 'sent' WHERE state = 'sending'")
    before = site.dumps()
    assert site.migrate() == 0
    assert in_postgresql(site.url) == in_sqlite(site.data)
    assert f"{LEADS - 1 + 1 + 1 + 1} rows brought over" in capsys.readouterr().out
    assert site.dumps() == before


def test_nothing_starts_on_what_is_not_whole_and_nothing_on_what_was_left(site: Site, capsys):
    site.migrate()
    assert leads("users", "list").returncode == 0
    unfinished = leads("users", "list", **on_postgresql(site.url))
    assert unfinished.returncode == 1
    assert "is not whole yet" in unfinished.stderr

    site.migrate(finish=True)
    assert "bo@example.com" in leads("users", "list", **on_postgresql(site.url)).stdout
    backups = str(site.data.parent / "backups")
    for arguments in (("users", "list"), ("audit",), ("queues", "republish", "--lead", "x"), ("backup", backups)):
        (line,) = leads(*arguments).stderr.splitlines()
        assert "leads.db was moved to PostgreSQL by `leads migrate`. Name that database instead." in line
    assert "was moved to PostgreSQL" in leads("doctor").stdout

    capsys.readouterr()
    assert (site.migrate(), site.migrate(finish=True)) == (0, 0)
    assert capsys.readouterr().out.count("Moved already.") == 2


def test_it_is_not_finished_while_anybody_has_a_database_open(site: Site, capsys):
    with closing(sqlite3.connect(site.data / "leads.db")) as idle:
        idle.execute("SELECT 1 FROM leads").fetchone()
        assert site.migrate() == 0
        assert site.migrate(finish=True) == command.EXIT_FAILED
        assert "leads.db is in use: stop Leads" in the_line(capsys)
    assert site.migrate(finish=True) == 0


def test_a_row_that_is_another_in_postgresql_is_found_and_nothing_is_changed_over(site: Site, capsys):
    site.migrate()
    query(site.url, "CREATE FUNCTION api.spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
          " IF NEW.last_name LIKE 'Zoë%' THEN NEW.last_name := 'Zoe'; END IF; RETURN NEW; END $$")  # fmt: skip
    query(site.url, "CREATE TRIGGER spoil BEFORE INSERT ON api.leads FOR EACH ROW EXECUTE FUNCTION api.spoil()")
    query(site.url, "UPDATE api.leads SET last_name = 'Zoe' WHERE last_name LIKE 'Zoë%'")
    before = site.dumps()
    capsys.readouterr()
    assert site.migrate(finish=True) == command.EXIT_NOT_EQUAL
    output, errors = capsys.readouterr()
    (spoilt,) = (row[0] for row in in_sqlite(site.data)["leads"] if row[2].startswith("Zoë"))
    assert f"leads {spoilt}: differs in last_name\n" in output
    assert errors.startswith("leads: 1 rows are not the same in PostgreSQL, and nothing was changed over")
    assert "Zoe" not in output
    assert site.dumps() == before
    assert leads("users", "list", **on_postgresql(site.url)).returncode == 1

    query(site.url, "DROP TRIGGER spoil ON api.leads")
    assert site.migrate(finish=True) == 0
    assert in_postgresql(site.url) == in_sqlite(site.data)


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


def test_what_ends_between_the_two_steps_of_the_change_leaves_one_way_on(site: Site, monkeypatch, capsys):
    async def killed(_self):
        raise CannotMigrate("killed")

    before = in_sqlite(site.data)
    with monkeypatch.context() as patched:
        patched.setattr(Target, "release", killed)
        assert site.migrate(finish=True) == command.EXIT_FAILED
    assert leads("users", "list").returncode == leads("users", "list", **on_postgresql(site.url)).returncode == 1
    assert site.migrate(finish=True) == 0
    assert in_postgresql(site.url) == before
    assert leads("users", "list", **on_postgresql(site.url)).returncode == 0


def test_a_run_that_another_has_taken_over_from_writes_nothing_any_more(site: Site, monkeypatch, capsys):
    write, others = Target.bring_into_line, []

    async def late(self, table, rows, key):
        if not others:
            others.append(leads("migrate", "--finish").stderr)  # this process has its source open
            others.append(leads("migrate").returncode)
        return await write(self, table, rows, key)

    monkeypatch.setattr(Target, "bring_into_line", late)
    assert site.migrate() == command.EXIT_FAILED
    assert "another `leads migrate` has taken over" in the_line(capsys)
    refused, status = others
    assert "is in use" in refused
    assert status == 0
    assert in_postgresql(site.url) == in_sqlite(site.data)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE alembic_version SET version_num = '9999_of_tomorrow'", "was written by a newer version of Leads"),
        ("UPDATE alembic_version SET version_num = '0001_first_tables'", "is of the older schema 0001_first_tables"),
        ("DROP TABLE alembic_version", "was not made by Leads"),
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
    ],
)
def test_a_value_that_postgresql_cannot_keep_is_one_line(site: Site, capsys, statement, said):
    site.change("leads.db", statement)
    assert site.migrate() == command.EXIT_FAILED
    assert said in the_line(capsys)


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


@pytest.mark.long
@pytest.mark.parametrize("options", [[], ["--finish"]])
def test_a_move_that_was_killed_has_changed_nothing_and_is_run_again(site: Site, options):
    make(site.data, MANY)
    before = site.dumps()
    some = "SELECT count(*) FROM pg_stat_user_tables WHERE schemaname = 'api' AND relname = 'leads' AND n_tup_ins > 0"
    killed_when(lambda: query(site.url, some) == [(1,)], *options)
    assert site.dumps() == before
    assert leads("users", "list", **on_postgresql(site.url)).returncode == 1
    assert site.migrate(finish=True) == 0
    assert in_postgresql(site.url) == in_sqlite(site.data)


def killed_when(is_so: Callable[[], bool], *options: str) -> None:
    """Run the command and kill -9 it in the middle. Fails when it is too quick for that."""
    command_line = [sys.executable, "-m", "services.cli", "migrate", *options]
    child = subprocess.Popen(command_line, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + CHILD_SECONDS
    while not is_so() and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.kill()
    assert child.wait() == -signal.SIGKILL
