"""`leads backup` and `leads restore` on real files: whole or not at all, whatever is cut short, or in the way."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.audit import BODY, make
from services.api.resume_search import index
from services.api.settings import ApiSettings
from services.cli.backup.command import EXIT_FAILED, run_backup, run_restore
from services.cli.backup.manifest import backups_in
from services.cli.turn import locked, open_lock
from tests.harness.backups import LEADS, Site, blobs, dump, everything, the_line
from tests.harness.deployment import ROOT
from tests.harness.embedded import execute

MANY = 3000
"""Enough that a backup and a restore of them can be killed in the middle."""

CHILD_SECONDS = 60.0
A_TIME = "20260102T030405.67890"


def test_what_was_backed_up_comes_back_for_its_owner_only(site: Site):
    (site.data / "resumes" / ".incoming").mkdir()
    (site.data / "resumes" / ".incoming" / "half").write_bytes(b"%PDF")
    assert (site.backup(), site.restore()) == (0, 0)
    (backup,) = backups_in(site.backups)
    assert blobs(backup) == blobs(site.empty) == blobs(site.data)
    for database in ("leads.db", "notifier.db"):
        dumps = [dump(folder / database) for folder in (site.data, backup, site.empty)]
        assert dumps[0] == dumps[1] == dumps[2]
    for top in (site.backups, site.empty):
        assert {stat.S_IMODE(path.stat().st_mode) for path in everything(top)} == {0o600, 0o700}
    assert not [path for path in everything(site.data.parent) if path.name.endswith((".restoring", ".partial"))]


def test_a_second_backup_copies_only_what_is_new_and_both_stay_whole(site: Site, capsys):
    assert site.backup() == 0
    lead_id, resume = execute(site.data / "leads.db", "SELECT id, resume_path FROM leads")[0]
    execute(site.data / "leads.db", f"UPDATE leads SET resume_path = 'f{resume[1:]}' WHERE id = '{lead_id}'")
    (site.data / "resumes" / resume).rename(site.data / "resumes" / f"f{resume[1:]}")
    assert site.backup() == 0
    newest, first = backups_in(site.backups)
    copied = {name for name in blobs(newest) if (newest / "resumes" / name).stat().st_nlink == 1}
    assert copied == {f"f{resume[1:]}"}
    assert resume in blobs(first)

    assert site.backup(keep=2) == 0
    assert backups_in(site.backups)[1:] == [newest]
    assert not first.exists()
    assert site.restore(newest) == 0
    assert blobs(site.empty) == blobs(newest)


@pytest.mark.parametrize("file", ["leads.db", "notifier.db", "leads.db-wal", "queue.db", "resumes/{id}"])
def test_nothing_that_is_there_is_overwritten(site: Site, capsys, file: str):
    site.backup()
    there = site.empty / file.format(id="01890000-0000-7000-8000-000000000000")
    there.parent.mkdir(parents=True)
    there.write_bytes(b"somebody's")
    assert site.restore() == EXIT_FAILED
    assert f"{there} is there already" in the_line(capsys)
    assert {path for path in everything(site.empty) if path.is_file()} == {there, site.empty / ".init.lock"}


def test_each_room_may_have_a_volume_of_its_own(site: Site, tmp_path: Path, monkeypatch):
    """As in docker-compose.yml, where a volume is there before the restore is."""
    site.backup()
    volumes = tmp_path / "volumes"
    for room in ("api", "storage", "notifier", "ops"):
        (volumes / room).mkdir(parents=True)
    (volumes / "storage" / "resumes" / ".incoming").mkdir(parents=True)
    monkeypatch.setenv("LEADS_DATABASE_URL", f"sqlite:///{volumes}/api/leads.db")
    monkeypatch.setenv("LEADS_NOTIFIER_DATABASE_URL", f"sqlite:///{volumes}/notifier/notifier.db")
    monkeypatch.setenv("LEADS_BLOB_URL", f"file://{volumes}/storage/resumes")
    site.use(volumes / "ops")
    (backup,) = backups_in(site.backups)
    assert (run_restore(backup), run_backup(site.backups, None)) == (0, 0)
    assert blobs(volumes / "storage") == blobs(site.data)
    assert {path.name for path in volumes.glob("*/*")} == {"leads.db", "notifier.db", "resumes", ".init.lock"}
    assert dump(volumes / "api" / "leads.db") == dump(site.data / "leads.db")


def test_nothing_is_restored_while_a_room_runs(site: Site, capsys):
    site.backup()
    site.use(site.empty)
    with socket.create_server(("127.0.0.1", ApiSettings().notifier_port)):
        assert site.restore() == EXIT_FAILED
    assert "stop Leads" in the_line(capsys)
    assert not site.empty.exists()


def test_emails_of_leads_that_came_in_between_are_not_in_it_and_older_ones_are(site: Site):
    lost, late = (row[0] for row in execute(site.data / "leads.db", "SELECT id FROM leads LIMIT 2"))
    execute(site.data / "leads.db", f"DELETE FROM leads WHERE id IN ('{lost}', '{late}')")
    execute(site.data / "notifier.db", f"UPDATE emails SET created_at = '2999-01-01' WHERE lead_id = '{late}'")
    assert site.backup() == 0
    found = execute(backups_in(site.backups)[0] / "notifier.db", "SELECT DISTINCT lead_id FROM emails")
    assert lost in {lead_id for (lead_id,) in found}
    assert late not in {lead_id for (lead_id,) in found}


@pytest.mark.long
def test_a_backup_that_was_killed_is_none_and_the_next_one_clears_it_away(made: Path, site: Site, capsys):
    make(site.data, MANY)
    killed_when(lambda: any(site.backups.glob("*.partial/resumes/*")), site.data, "backup", site.backups)
    (partial,) = site.backups.glob("*.partial")
    assert backups_in(site.backups) == []
    assert site.restore(partial) == EXIT_FAILED
    assert "is no whole backup" in the_line(capsys)
    assert site.backup() == 0
    assert site.restore(site.backups) == EXIT_FAILED
    assert f"did you mean {backups_in(site.backups)[0]}?" in the_line(capsys)
    assert not partial.exists()
    assert len(blobs(backups_in(site.backups)[0])) == LEADS + MANY


@pytest.mark.long
def test_a_restore_that_was_killed_has_restored_no_lead_and_can_be_run_again(site: Site):
    make(site.data, MANY)
    site.backup()
    (backup,) = backups_in(site.backups)
    killed_when(lambda: len(list(site.empty.glob("resumes/*-*"))) > MANY / 10, site.empty, "restore", backup)
    assert not (site.empty / "leads.db").exists()
    assert set(blobs(site.empty).values()) == {BODY}
    # As if it had been killed later, with one of the two names given.
    shutil.copy(backup / "notifier.db", site.empty / "notifier.db.restoring")
    os.link(site.empty / "notifier.db.restoring", site.empty / "notifier.db")
    assert site.restore() == 0
    assert blobs(site.empty) == blobs(backup)
    assert {path.name for path in site.empty.iterdir()} == {".init.lock", "leads.db", "notifier.db", "resumes"}


def test_what_somebody_else_keeps_in_the_folder_stays(site: Site):
    site.backups.mkdir()
    (site.backups / "holiday.partial").mkdir()
    (site.backups / "movie.mkv.partial").write_bytes(b"half")
    (site.backups / f"{A_TIME}1Z.partial").write_bytes(b"of that name, and no folder")
    (site.backups / f"{A_TIME}2Z.partial").symlink_to(site.data)
    elsewhere = site.backups / f"{A_TIME}3Z"
    elsewhere.symlink_to(shutil.copytree(site.data, site.backups / "elsewhere"))
    (elsewhere / "manifest.json").touch()
    cut_short = site.backups / f"{A_TIME}4Z.partial"
    kept = everything(site.backups) | everything(site.data)
    for _ in range(2):  # the second one drops the first
        cut_short.mkdir()
        assert site.backup(keep=1) == 0
        assert not cut_short.exists()
    assert kept <= everything(site.backups) | everything(site.data)
    assert backups_in(site.backups)[1:] == [elsewhere]


def test_two_backups_at_once_are_one(site: Site, capsys):
    site.backup()
    other = open_lock(site.backups / ".lock")
    assert locked(other)
    assert site.backup() == EXIT_FAILED
    assert "another backup is being made there" in the_line(capsys)
    os.close(other)
    assert site.backup() == 0


def test_a_backup_of_an_older_leads_is_brought_up_to_date(site: Site):
    execute(site.data / "leads.db", "DROP TABLE audit_runs")
    execute(site.data / "leads.db", "DROP TABLE rate_counts")
    for table in (index.TEXTS, index.WORDS):
        execute(site.data / "leads.db", f"DROP TABLE {table}")
    execute(site.data / "leads.db", "ALTER TABLE outbox DROP COLUMN waiting_since")
    execute(site.data / "leads.db", "UPDATE alembic_version SET version_num = '0001_first_tables'")
    assert (site.backup(), site.restore()) == (0, 0)
    assert execute(site.empty / "leads.db", "SELECT count(*) FROM audit_runs") == [(0,)]


def start(data: Path, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LEADS_DATA_DIR": str(data)}
    command = [sys.executable, "-m", "services.cli", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def killed_when(is_so: Callable[[], bool], data: Path, *arguments: object) -> None:
    """Run the command and kill -9 it in the middle. Fails when it is too quick for that."""
    child = start(data, *arguments)
    deadline = time.monotonic() + CHILD_SECONDS
    while not is_so() and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
