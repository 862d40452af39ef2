"""What `leads doctor` says of databases in MariaDB. It changes none of them, and tells no password."""

import pytest

from services.api import setup as api
from services.api.settings import ApiSettings
from services.cli.doctor.databases import check_databases, check_staff
from services.cli.doctor.report import State
from services.notifier import setup as notifier
from services.notifier.settings import NotifierSettings
from tests.harness.doctor import PASSWORD, findings_of, the_one
from tests.harness.mariadb import query

pytestmark = pytest.mark.mariadb


def urls(maria) -> dict[str, str]:
    settings = ("LEADS_DATABASE_URL", "LEADS_NOTIFIER_DATABASE_URL")
    return {setting: maria.url(maria.add_database()) for setting in settings}


@pytest.fixture
def settings(maria, tmp_path):
    maria.start()
    return {**urls(maria), "LEADS_DATA_DIR": str(tmp_path / "data")}


@pytest.fixture
async def prepared(settings):
    await api.prepare(ApiSettings(database_url=settings["LEADS_DATABASE_URL"], admin_password=PASSWORD))
    await notifier.prepare(NotifierSettings(notifier_database_url=settings["LEADS_NOTIFIER_DATABASE_URL"]))
    return settings


async def test_databases_that_are_well_are_one_line_each(prepared):
    found = await findings_of(check_databases, prepared)
    assert [finding.state for finding in found] == [State.OK] * 2
    assert all("is durable, MariaDB 1" in finding.found for finding in found)
    assert [finding.found for finding in await findings_of(check_staff, prepared)] == ["1 may sign in"]


async def test_databases_that_are_empty_are_no_fault_and_stay_so(settings):
    assert {one.state for one in await findings_of(check_databases, settings)} == {State.WARNING}
    assert {one.state for one in await findings_of(check_staff, settings)} == {State.SKIPPED}
    assert query(settings["LEADS_DATABASE_URL"], "SHOW TABLES") == []


async def test_a_newer_schema_is_named_with_what_to_do(prepared):
    query(prepared["LEADS_NOTIFIER_DATABASE_URL"], "UPDATE alembic_version SET version_num = '9999_of_tomorrow'")
    found = await the_one(check_databases, prepared, State.FAILED)
    assert "LEADS_NOTIFIER_DATABASE_URL" in found.found
    assert "was written by a newer version of Leads (schema 9999_of_tomorrow; this one knows up to" in found.found


async def test_one_database_for_both_rooms_is_named(prepared):
    shared = {**prepared, "LEADS_NOTIFIER_DATABASE_URL": prepared["LEADS_DATABASE_URL"]}
    failed = [one.found for one in await findings_of(check_databases, shared) if one.state is State.FAILED]
    assert "LEADS_DATABASE_URL and LEADS_NOTIFIER_DATABASE_URL name one database: each needs its own." in failed


@pytest.mark.parametrize(
    ("change", "words"),
    [({"password": "s3cret"}, "refused the login"), ({"password": "s3cret", "port": 1}, "does not answer")],
)
async def test_what_keeps_us_out_is_named_without_the_password(prepared, maria, change, words):
    url = maria.url(prepared["LEADS_DATABASE_URL"].rpartition("/")[2], **change)
    found = await the_one(check_databases, {**prepared, "LEADS_DATABASE_URL": url}, State.FAILED)
    assert words in found.found
    assert "s3cret" not in f"{found.found} {found.mend}"


@pytest.mark.long
async def test_a_server_that_forgets_or_has_no_room_or_may_only_be_read_is_found(own_maria, tmp_path):
    settings = {**urls(own_maria), "LEADS_DATA_DIR": str(tmp_path / "data")}
    await api.prepare(ApiSettings(database_url=settings["LEADS_DATABASE_URL"], admin_password=PASSWORD))
    await notifier.prepare(NotifierSettings(notifier_database_url=settings["LEADS_NOTIFIER_DATABASE_URL"]))
    for change in ("innodb_flush_log_at_trx_commit = 0", "max_connections = 20", "read_only = ON"):
        own_maria.execute(f"SET GLOBAL {change}")
    found = await findings_of(check_databases, settings)
    told = " ".join(one.found for one in found)
    assert "forgets what it committed when its machine stops" in told
    assert "may only be read" in told
    assert "takes 20 connections; each room opens up to 8" in told
