"""The commands, with PostgreSQL for both databases and its URL in a file: what a person at a terminal sees."""

import asyncio
import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.harness.client import Client
from tests.harness.commands import leads
from tests.harness.deployment import STOP_SECONDS, Deployment
from tests.harness.files import pdf
from tests.harness.kept import change, email_rows
from tests.harness.postgresql import query
from tests.harness.supervised import started

pytestmark = [pytest.mark.postgresql, pytest.mark.long]

LEADS = str(Path(__file__).parents[2] / "leads")


@pytest.fixture
def deployment(tmp_path: Path, postgres_url: str) -> Deployment:
    """Not started. Without the settings that a first start makes by itself."""
    deployment = Deployment(tmp_path)
    for setting in ("JWT_SECRET", "SERVICE_SECRET", "ADMIN_PASSWORD", "LOG_FORMAT"):
        del deployment.environment[f"LEADS_{setting}"]
    (tmp_path / "url").write_text(postgres_url + "\n")
    for setting in ("LEADS_DATABASE_URL", "LEADS_NOTIFIER_DATABASE_URL"):
        deployment.environment[f"{setting}_FILE"] = str(tmp_path / "url")
    return deployment


async def test_a_first_start_a_lead_and_every_command_after_it(deployment: Deployment, postgres_url: str, tmp_path):
    with started([LEADS, "up"], tmp_path / "output", deployment.environment) as running:
        await asyncio.to_thread(running.wait_for, "Ctrl-C stops")
        (password,) = re.findall(r"password: (\S{12,})  \(shown only this once\)", running.output)
        await a_lead_comes_and_staff_find_it(deployment, password, postgres_url)
        await commands_work(deployment, postgres_url)
        running.signal(signal.SIGTERM)
        assert await asyncio.to_thread(running.wait) == 0
        assert "Traceback" not in running.output
        assert_secret(running.output, postgres_url)
    assert not list(deployment.data.glob("leads.db*"))


async def a_lead_comes_and_staff_find_it(deployment: Deployment, password: str, url: str) -> None:
    async with Client(deployment.api_url) as client:
        lead = (await client.post_lead("grace@example.com", pdf(3000))).json
        assert (await client.login(deployment.environment["LEADS_ADMIN_EMAIL"], password)).status == 200
        found = await client.call("GET", "/leads?q=grace")
        assert [one["id"] for one in found.json["items"]] == [lead["id"]]
    deployment.environment["LEADS_DATABASE_URL"] = deployment.environment["LEADS_NOTIFIER_DATABASE_URL"] = url
    async with asyncio.timeout(15):
        while [state for state, _ in email_rows(deployment).values()] != ["sent", "sent"]:
            await asyncio.sleep(0.05)


async def commands_work(deployment: Deployment, url: str) -> None:
    added = await leads(deployment, "users", "add", "ann@x.com", "--password-stdin", stdin="a long password\n")
    assert (added.status, added.output) == (0, "ann@x.com may sign in.\n")
    again = await leads(deployment, "users", "add", "Ann@x.com", "--password-stdin", stdin="a long password\n")
    assert (again.status, again.errors) == (1, "leads: There is already a user ann@x.com.\n")
    assert "ann@x.com" in (await leads(deployment, "users", "list")).output
    assert (await leads(deployment, "users", "disable", "ann@x.com")).status == 0

    audit = await leads(deployment, "audit", "--json")
    assert audit.status == 0, audit
    change(url, "DELETE FROM notifier.emails WHERE kind = 'staff'")
    assert (await leads(deployment, "audit")).status == 1
    assert query(url, "SELECT leads_checked, discrepancies > 0 FROM api.audit_runs ORDER BY id") == [
        (1, False),
        (1, True),
    ]

    doctor = await leads(deployment, "doctor", "--json")
    databases = [one for one in json.loads(doctor.output)["findings"] if one["check"] == "database"]
    assert [one["state"] for one in databases] == ["ok", "ok"]
    assert_secret(doctor.output, url)

    backup = await leads(deployment, "backup", str(deployment.folder / "backups"))
    assert backup.status == 2
    assert re.fullmatch(
        r"leads: LEADS_DATABASE_URL names no SQLite file: .*pg_dump.*docs/backup\.md.*\n", backup.errors
    )


async def test_two_first_starts_at_once_on_two_machines_make_one_login(deployment: Deployment, tmp_path):
    elsewhere = Deployment(tmp_path / "elsewhere", {**deployment.environment, "LEADS_DATA_DIR": str(tmp_path / "b")})
    del elsewhere.environment["LEADS_JWT_SECRET"], elsewhere.environment["LEADS_SERVICE_SECRET"]
    del elsewhere.environment["LEADS_ADMIN_PASSWORD"]
    both = await asyncio.gather(leads(deployment, "init"), leads(elsewhere, "init"))
    assert [done.status for done in both] == [0, 0], both
    assert sum("password: " in done.output for done in both) == 1


async def test_a_server_that_is_away_is_one_line_for_each_command(deployment: Deployment, postgres):
    url = postgres.url("leads", password="s3cret", port=1)
    deployment.environment["LEADS_DATABASE_URL"] = url
    deployment.resumes.mkdir(parents=True)
    for command in (("init",), ("users", "list"), ("audit",)):
        done = await leads(deployment, *command)
        assert done.status in {1, 2}, done
        assert len(done.errors.splitlines()) == 1, done
        assert "LEADS_DATABASE_URL: 127.0.0.1:1/leads does not answer" in done.errors
        assert "s3cret" not in done.errors + done.output


async def test_a_room_on_a_database_of_a_newer_version_says_so_and_that_trying_again_is_no_use(
    deployment: Deployment, postgres_url: str
):
    assert (await leads(deployment, "init")).status == 0
    query(postgres_url, "UPDATE notifier.alembic_version SET version_num = '9999_of_tomorrow'")
    deployment.environment["LEADS_LOG_FORMAT"] = "json"
    deployment.launch("notifier")
    assert deployment.processes["notifier"].wait(STOP_SECONDS) == os.EX_CONFIG
    (line,) = deployment.log("notifier")
    assert line["event"].startswith("LEADS_NOTIFIER_DATABASE_URL: 127.0.0.1:")
    assert "was written by a newer version of Leads (schema 9999_of_tomorrow" in line["event"]


def assert_secret(output: str, url: str) -> None:
    password = url.partition("://")[2].partition("@")[0].partition(":")[2]
    assert len(password) > 8
    assert password not in output
