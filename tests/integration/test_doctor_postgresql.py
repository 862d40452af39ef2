"""What `leads doctor` says of databases in PostgreSQL. It changes none of them, and tells no password."""

from datetime import UTC, datetime, timedelta

import pytest

from services.api import setup as api
from services.api.settings import ApiSettings
from services.cli.doctor import databases
from services.cli.doctor.clock import check_clock
from services.cli.doctor.databases import check_databases, check_staff
from services.cli.doctor.report import State
from services.notifier import setup as notifier
from services.notifier.settings import NotifierSettings
from shared.engines import turns
from shared.ids import lowest_id
from tests.harness.doctor import PASSWORD, findings_of, the_one
from tests.harness.postgresql import query

pytestmark = pytest.mark.postgresql


@pytest.fixture
def settings(postgres_url, tmp_path):
    return {
        "LEADS_DATABASE_URL": postgres_url,
        "LEADS_NOTIFIER_DATABASE_URL": postgres_url,
        "LEADS_DATA_DIR": str(tmp_path / "data"),
    }


@pytest.fixture
async def prepared(postgres_url, settings):
    await api.prepare(ApiSettings(database_url=postgres_url, admin_password=PASSWORD))
    await notifier.prepare(NotifierSettings(notifier_database_url=postgres_url))
    return settings


async def test_databases_that_are_well_are_one_line_each(prepared):
    found = await findings_of(check_databases, prepared)
    assert [finding.state for finding in found] == [State.OK] * 2
    assert all("is durable, PostgreSQL 1" in finding.found for finding in found)
    assert [finding.found for finding in await findings_of(check_staff, prepared)] == ["1 may sign in"]


async def test_databases_that_are_empty_are_no_fault_and_stay_so(settings, postgres_url):
    assert {one.state for one in await findings_of(check_databases, settings)} == {State.WARNING}
    assert {one.state for one in await findings_of(check_staff, settings)} == {State.SKIPPED}
    assert query(postgres_url, "SELECT 1 FROM pg_namespace WHERE nspname IN ('api', 'notifier')") == []


async def test_a_newer_schema_and_tables_of_something_else_are_named_with_what_to_do(prepared, postgres_url):
    query(postgres_url, "UPDATE notifier.alembic_version SET version_num = '9999_of_tomorrow'")
    found = await the_one(check_databases, prepared, State.FAILED)
    assert "LEADS_NOTIFIER_DATABASE_URL" in found.found
    assert "was written by a newer version of Leads (schema 9999_of_tomorrow; this one knows up to" in found.found
    query(postgres_url, "DROP TABLE notifier.alembic_version")
    assert "it was not made by Leads" in (await the_one(check_databases, prepared, State.FAILED)).found


async def test_an_older_schema_is_only_said(prepared, tmp_path, monkeypatch):
    older = tmp_path / "api" / "versions"
    older.mkdir(parents=True)
    for name in (*(file.name for file in databases.API_MIGRATIONS.glob("*.py")), "9998_next.py"):
        (older / name).touch()
    monkeypatch.setattr(databases, "API_MIGRATIONS", older)
    assert "is of the older schema" in (await the_one(check_databases, prepared, State.WARNING)).found


async def test_a_login_that_is_refused_and_a_server_that_is_away_are_named_without_the_password(
    prepared, postgres, monkeypatch
):
    monkeypatch.setattr(turns, "BUSY_TIMEOUT_SECONDS", 0.3)
    for url, words in (
        (postgres.url("x", password="s3cret"), "refused the login"),
        (postgres.url("x", password="s3cret", port=1), "does not answer"),
        (postgres.url("nowhere"), "does not exist: make it with `createdb`"),
    ):
        found = await the_one(check_databases, {**prepared, "LEADS_DATABASE_URL": url}, State.FAILED)
        assert words in found.found
        assert "s3cret" not in found.found + found.mend
        staff = await findings_of(check_staff, {**prepared, "LEADS_DATABASE_URL": url})
        assert [one.state for one in staff] == [State.SKIPPED]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("colour=blue", "colour is no option"),
        ("timeout=3", "timeout is no option"),
        ("ssl=nonsense", "ssl must be one of disable, allow"),
        ("sslmode=verify-full", "PGSSLROOTCERT names its file"),
    ],
)
async def test_an_option_that_cannot_work_is_named(prepared, postgres_url, option, words, monkeypatch):
    monkeypatch.setenv("PGSSLROOTCERT", "/nowhere/root.crt")
    settings = {**prepared, "LEADS_DATABASE_URL": f"{postgres_url}?{option}"}
    assert words in (await the_one(check_databases, settings, State.FAILED)).found


async def test_a_port_that_is_none_is_named(prepared, postgres):
    url = postgres.url("leads", password="s3cret", port=99999)
    found = await the_one(check_databases, {**prepared, "LEADS_DATABASE_URL": url}, State.FAILED)
    assert "99999 is no port" in found.found


async def test_the_word_of_libpq_for_tls_is_understood(prepared, postgres_url):
    settings = {**prepared, "LEADS_DATABASE_URL": f"{postgres_url}?sslmode=disable"}
    assert [one.state for one in await findings_of(check_databases, settings)] == [State.OK] * 2


async def test_a_user_who_may_make_no_tables_is_told_what_to_do(postgres, postgres_url, settings):
    postgres.execute(f"ALTER DATABASE {postgres_url.rpartition('/')[2]} OWNER TO postgres")
    found = [one for one in await findings_of(check_databases, settings) if one.state is State.FAILED]
    assert ["schema api" in found[0].found, "schema notifier" in found[1].found] == [True, True]
    assert "ALTER SCHEMA api OWNER TO" in found[0].mend


async def test_a_server_that_forgets_what_it_answered_is_found(prepared, postgres):
    postgres.execute("ALTER SYSTEM SET fsync = off")
    postgres.execute("ALTER SYSTEM SET max_connections = 20")
    postgres.restart()
    try:
        found = await findings_of(check_databases, prepared)
    finally:
        postgres.execute("ALTER SYSTEM RESET ALL")
        postgres.restart()
    told = [one.found for one in found if "LEADS_DATABASE_URL" in one.found]
    assert "fsync is off: when that server crashes, leads are lost" in told[0]
    assert "takes 20 connections" in told[1]


async def test_somebody_must_be_able_to_sign_in(prepared, postgres_url):
    query(postgres_url, "UPDATE api.users SET disabled_at = now()")
    assert (await the_one(check_staff, prepared, State.FAILED)).mend.startswith("leads users add")


async def test_rows_from_after_now_show_a_clock_that_is_behind(prepared, postgres_url):
    made = lowest_id(datetime.now(UTC) + timedelta(hours=1))
    query(
        postgres_url,
        "INSERT INTO notifier.emails VALUES (?, 'e', 'l', 'staff', 'staff', 'sent', 1, NULL, NULL, now(), now())",
        made,
    )
    assert "LEADS_NOTIFIER_DATABASE_URL" in (await the_one(check_clock, prepared, State.FAILED)).found
