"""What `leads doctor` says of settings and secrets: all that is wrong, by name, and never a value that is secret."""

from pathlib import Path

import pytest

from services.cli.doctor.report import State, exit_status
from services.cli.doctor.settings import check_secrets, check_settings
from tests.harness.doctor import findings_of, the_one

KEY, OTHER = "k" * 48, "o" * 48
SECRETS = {"LEADS_JWT_SECRET": KEY, "LEADS_SERVICE_SECRET": OTHER}


async def test_every_setting_that_is_wrong_is_named_once():
    wrong = {
        "LEADS_API_PORT": "many",
        "LEADS_LOG_LEVEL": "LOUD",
        "LEADS_INTAKE_RATE": "often",
        "LEADS_MAIL_FROM": "nobody",
        "LEADS_NOTIFIER_CONCURRENCY": "0",
    }
    found = [finding.found for finding in await findings_of(check_settings, wrong)]
    for name in wrong:
        assert len([text for text in found if name in text]) == 1, name
    assert len(found) == len(wrong)


async def test_a_list_that_is_no_json_is_named():
    found = await the_one(check_settings, {"LEADS_RETRY_DELAYS_SECONDS": "10 s"}, State.FAILED)
    assert found.found == "LEADS_RETRY_DELAYS_SECONDS is not valid: it must be JSON, such as [10, 60]."


async def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    missing = tmp_path / "key"
    found = await the_one(check_settings, {"SENDGRID_API_KEY_FILE": str(missing)}, State.FAILED)
    assert f"SENDGRID_API_KEY_FILE: {missing} cannot be read" in found.found


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("LEADS_BROKER_ULR", "LEADS_BROKER_URL"), ("SENDGRID_APIKEY_FILE", "SENDGRID_API_KEY_FILE")],
)
async def test_a_name_that_nobody_reads_is_taken_for_the_nearest_one(typed, meant):
    found = await the_one(check_settings, {typed: "x"}, State.WARNING)
    assert found.found == f"{typed} is set, and no room reads it."
    assert found.mend == f"Did you mean {meant}?"


async def test_settings_that_load_are_well():
    assert [finding.state for finding in await findings_of(check_settings, {})] == [State.OK]


async def test_secrets_that_are_there_and_different_are_well():
    assert [finding.state for finding in await findings_of(check_secrets, SECRETS)] == [State.OK]


async def test_secrets_that_are_missing_are_each_named_with_what_makes_them(tmp_path: Path):
    found = await findings_of(check_secrets, {"LEADS_DATA_DIR": str(tmp_path)})
    assert [finding.state for finding in found] == [State.FAILED] * 2
    assert "LEADS_JWT_SECRET is not set" in found[0].found
    assert "LEADS_SERVICE_SECRET is not set" in found[1].found
    assert all("run `leads init`" in finding.found for finding in found)


async def test_a_short_secret_is_named_and_not_shown():
    found = await the_one(check_secrets, {**SECRETS, "LEADS_JWT_SECRET": "hunter2"}, State.FAILED)
    assert "LEADS_JWT_SECRET is too short" in found.found
    assert "hunter2" not in found.found + found.mend


async def test_one_secret_for_two_purposes_is_refused():
    found = await the_one(check_secrets, {**SECRETS, "LEADS_SERVICE_SECRET": KEY}, State.FAILED)
    assert "LEADS_JWT_SECRET and LEADS_SERVICE_SECRET are the same" in found.found
    assert KEY not in found.found + found.mend


async def test_a_private_key_that_is_none_is_named():
    settings = {"LEADS_SERVICE_SECRET": OTHER, "LEADS_JWT_PRIVATE_KEY": "-----BEGIN PRIVATE KEY-----\nnone"}
    assert "LEADS_JWT_PRIVATE_KEY" in (await the_one(check_secrets, settings, State.FAILED)).found


async def test_secret_files_that_others_may_read_are_named_with_the_command_that_closes_them(tmp_path: Path):
    folder = tmp_path / "secrets"
    folder.mkdir()
    file, given = folder / "jwt_secret", tmp_path / "given"
    for one in (file, given):
        one.write_text(KEY)
        one.chmod(0o644)
    settings = {**SECRETS, "LEADS_DATA_DIR": str(tmp_path), "SENDGRID_API_KEY_FILE": str(given)}
    found = await findings_of(check_secrets, settings)
    assert {finding.mend: finding.state for finding in found if finding.mend.startswith("chmod")} == {
        f"chmod 600 {file}": State.FAILED,
        f"chmod 600 {given}": State.WARNING,
    }
    file.chmod(0o600)
    given.chmod(0o600)
    given.write_text("SG.x")
    assert exit_status(await findings_of(check_secrets, settings)) == 0
