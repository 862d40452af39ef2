"""What `leads doctor` says of databases: old, new, damaged, foreign, without users. It changes none of them."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from services.api.settings import MIGRATIONS
from services.cli.doctor import databases
from services.cli.doctor.clock import check_clock
from services.cli.doctor.databases import check_databases, check_staff
from services.cli.doctor.report import State, exit_status
from shared.ids import lowest_id
from shared.sqlite import file_of
from tests.harness.doctor import findings_of, prepared, the_one


@pytest_asyncio.fixture
async def data(tmp_path: Path) -> Path:
    return await prepared(tmp_path / "data")


def settings(data: Path) -> dict[str, str]:
    return {"LEADS_DATA_DIR": str(data)}


def execute(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


async def test_databases_that_are_well_are_one_line_each(data):
    assert [finding.state for finding in await findings_of(check_databases, settings(data))] == [State.OK] * 2


async def test_databases_that_are_not_there_yet_are_no_fault_and_are_not_made(tmp_path):
    for check in (check_databases, check_staff):
        found = await findings_of(check, settings(tmp_path / "data"))
        assert {finding.state for finding in found} == {State.SKIPPED}
    assert not (tmp_path / "data").exists()


async def test_a_newer_schema_is_named_with_what_to_do(data):
    execute(data / "notifier.db", "UPDATE alembic_version SET version_num = '9999_of_tomorrow'")
    found = await the_one(check_databases, settings(data), State.FAILED)
    assert "LEADS_NOTIFIER_DATABASE_URL" in found.found
    assert "was written by a newer version of Leads (schema 9999_of_tomorrow; this one knows up to" in found.found
    assert "restore a backup" in found.mend


async def test_an_older_schema_is_only_said(data, tmp_path, monkeypatch):
    older = tmp_path / "api" / "versions"
    older.mkdir(parents=True)
    for name in (*(file.name for file in MIGRATIONS.glob("*.py")), "9998_next.py"):
        (older / name).touch()
    monkeypatch.setattr(databases, "API_MIGRATIONS", older)
    found = await the_one(check_databases, settings(data), State.WARNING)
    assert "is of the older schema" in found.found
    assert "the next start brings it up to date" in found.mend


async def test_tables_of_something_else_are_named(data):
    execute(data / "leads.db", "DROP TABLE alembic_version")
    assert "it was not made by Leads" in (await the_one(check_databases, settings(data), State.FAILED)).found


async def test_a_file_that_is_no_database_is_named(data):
    (data / "leads.db").write_bytes(b"no database at all" * 500)
    found = await the_one(check_databases, settings(data), State.FAILED)
    assert f"LEADS_DATABASE_URL: {data}/leads.db is not a file of Leads" in found.found


async def test_a_damaged_database_is_found(data):
    execute(data / "leads.db", "CREATE TABLE filler (text)", *["INSERT INTO filler VALUES (hex(randomblob(3000)))"] * 9)
    content = bytearray((data / "leads.db").read_bytes())
    content[-8192:-4096] = b"\xff" * 4096
    (data / "leads.db").write_bytes(content)
    found = await the_one(check_databases, settings(data), State.FAILED)
    assert "is damaged" in found.found
    assert "restore a backup" in found.mend


async def test_a_database_too_large_to_be_checked_in_time_is_said(data, monkeypatch):
    monkeypatch.setattr(databases, "QUICK_CHECK_SECONDS", -1.0)
    monkeypatch.setattr(databases, "_STEPS", 1)
    found = await findings_of(check_databases, settings(data))
    assert {finding.state for finding in found} == {State.SKIPPED}


async def test_a_database_without_its_log_mode_is_said(data):
    execute(data / "leads.db", "PRAGMA journal_mode = DELETE")
    assert "in delete mode, not WAL" in (await the_one(check_databases, settings(data), State.WARNING)).found


async def test_somebody_must_be_able_to_sign_in(data):
    assert [finding.found for finding in await findings_of(check_staff, settings(data))] == ["1 may sign in"]
    execute(data / "leads.db", "UPDATE users SET disabled_at = '2026-01-01 00:00:00'")
    found = await the_one(check_staff, settings(data), State.FAILED)
    assert found.mend.startswith("leads users add")


@pytest.mark.parametrize(("ahead_seconds", "state"), [(30, State.WARNING), (3600, State.FAILED)])
async def test_rows_from_after_now_show_a_clock_that_is_behind(data, ahead_seconds, state):
    made = lowest_id(datetime.now(UTC) + timedelta(seconds=ahead_seconds))
    execute(
        data / "notifier.db",
        "INSERT INTO emails (id, event_id, lead_id, kind, mailbox, state, attempts, created_at, updated_at)"
        f" VALUES ('{made}', 'e', 'l', 'staff', 'staff', 'sent', 1, '2026-01-01', '2026-01-01')",
    )
    found = await the_one(check_clock, settings(data), state)
    assert "LEADS_NOTIFIER_DATABASE_URL" in found.found
    assert "timedatectl" in found.mend


async def test_a_database_url_of_another_kind_is_named():
    found = await the_one(check_databases, {"LEADS_DATABASE_URL": "mysql://x"}, State.FAILED)
    assert "LEADS_DATABASE_URL must be sqlite:////path/to/file" in found.found


async def test_looking_leaves_no_trace(data):
    before = sorted(file.name for file in data.iterdir())
    assert exit_status(await findings_of(check_databases, settings(data))) == 0
    assert sorted(file.name for file in data.iterdir()) == before


@pytest.mark.parametrize("port", ["x", "of@password"])
async def test_a_url_whose_port_is_no_number_is_named_by_its_setting_alone(tmp_path, port):
    url = f"postgresql://leads:half@the:{port}/leads"
    found = await the_one(check_databases, {**settings(tmp_path), "LEADS_DATABASE_URL": url}, State.FAILED)
    assert found.found.startswith("LEADS_DATABASE_URL must be ")
    assert port not in found.found + found.mend


def test_the_nodes_of_a_cluster_with_their_ports_are_no_file():
    assert file_of("amqp://leads:secret@rabbit-1:5672,rabbit-2:5672,rabbit-3/leads") is None
