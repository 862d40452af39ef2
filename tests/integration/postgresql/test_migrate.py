"""`leads migrate` on real files and a real server: every row or none, compared, whatever is cut short."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

import asyncpg
import pytest

from bench.audit import make
from services.cli.migrate import command
from services.cli.migrate.rooms import CannotMigrate
from services.cli.migrate.target import Target
from tests.harness.backups import the_line
from tests.harness.deployment import ROOT
from tests.harness.moves import CHILD_SECONDS, LEADS, Site, in_postgresql, in_sqlite, leads, on_postgresql
from tests.harness.postgresql import query

pytestmark = pytest.mark.postgresql

MANY = 10_000
"""Enough that a move of them can be killed in the middle."""


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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
def test_of_two_that_begin_at_once_one_goes_on(site: Site, monkeypatch, capsys):
    make_tables, others = Target._make, []

    async def late(self):
        await make_tables(self)
        others.append(leads("migrate").returncode)

    monkeypatch.setattr(Target, "_make", late)
    assert site.migrate() == command.EXIT_FAILED
    assert "another `leads migrate` has taken over" in the_line(capsys)
    assert others == [0]
    assert in_postgresql(site.url) == in_sqlite(site.data)


@pytest.mark.long
@pytest.mark.parametrize("options", [[], ["--finish"]])
def test_a_move_that_was_killed_has_changed_nothing_and_is_run_again(site: Site, options):
    make(site.data, MANY)
    before = site.dumps()
    killed_when(lambda: some_are_there(site.url), *options)
    assert site.dumps() == before
    assert leads("users", "list", **on_postgresql(site.url)).returncode == 1
    assert site.migrate(finish=True) == 0
    assert in_postgresql(site.url) == in_sqlite(site.data)


def some_are_there(url: str) -> bool:
    try:
        return query(url, "SELECT count(*) > 0 FROM api.leads") == [(True,)]
    except asyncpg.UndefinedTableError:
        return False


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


@pytest.mark.long
def test_an_answer_that_nobody_reads_is_not_taken_for_rows_that_differ(site: Site):
    """Exit status 1 says that nothing was changed over."""
    command_line = [sys.executable, "-m", "services.cli", "migrate", "--finish"]
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "wb") as pipe:
        child = subprocess.run(
            command_line,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=CHILD_SECONDS,
            check=False,
        )
    (line,) = child.stderr.splitlines()
    assert (child.returncode, "the answer could not be written" in line) == (command.EXIT_FAILED, True)
    assert in_postgresql(site.url) == in_sqlite(site.data)


def test_what_is_to_be_set_is_said_in_whole_also_by_a_run_that_had_half_to_do(site: Site, monkeypatch, capsys):
    release, released = Target.release, []

    async def once(self):
        if released:
            raise CannotMigrate("killed")
        await release(self)
        released.append(self)

    with monkeypatch.context() as patched:
        patched.setattr(Target, "release", once)
        assert site.migrate(finish=True) == command.EXIT_FAILED
    capsys.readouterr()
    assert site.migrate(finish=True) == 0
    assert "Set LEADS_DATABASE_URL and LEADS_NOTIFIER_DATABASE_URL to the URL" in capsys.readouterr().out
