"""The first start of containers: each room gets the secrets that it needs and no other, RabbitMQ its users."""

import base64
import hashlib
import json
import stat
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from services.cli import broker_users
from services.cli.provision import run
from services.cli.settings import CliSettings
from shared.settings import EX_CONFIG

ROOMS = ("api", "storage", "notifier", "ops", "rabbitmq", "grafana")


@pytest.fixture
def volumes(tmp_path):
    for room in ROOMS:
        (tmp_path / room).mkdir()
    return tmp_path


def secrets_of(volumes):
    """Every secret file by its path below `volumes`."""
    files = [*volumes.glob("*/secrets/*"), *volumes.glob("rabbitmq/admin_password"), *volumes.glob("ops/*_password")]
    return {str(file.relative_to(volumes)): file.read_text() for file in files}


async def test_every_room_gets_the_secrets_that_it_needs_for_its_eyes_only(volumes, capsys):
    assert await run(CliSettings(), volumes) == 0
    assert secrets_of(volumes).keys() == {
        "api/secrets/jwt_secret",
        "api/secrets/service_secret",
        "api/secrets/broker_url",
        "storage/secrets/service_secret",
        "notifier/secrets/broker_url",
        "ops/secrets/broker_url",
        "rabbitmq/admin_password",
        "ops/grafana_admin_password",
    }
    assert all(stat.S_IMODE((volumes / file).stat().st_mode) == 0o600 for file in secrets_of(volumes))
    assert secrets_of(volumes)["api/secrets/service_secret"] == secrets_of(volumes)["storage/secrets/service_secret"]
    said = capsys.readouterr().out
    assert "staff login: admin@leads.example" in said
    assert not any(secret.strip() in said for secret in secrets_of(volumes).values())


async def test_a_second_start_changes_no_secret_and_shows_none(volumes, capsys):
    await run(CliSettings(), volumes)
    first = secrets_of(volumes)
    capsys.readouterr()
    assert await run(CliSettings(), volumes) == 0
    assert secrets_of(volumes) == first
    assert "password" not in capsys.readouterr().out


@pytest.mark.parametrize("lost", ["api", "storage"])
async def test_what_api_and_storage_share_stays_the_same_for_both(volumes, lost):
    """One volume was lost, or a secret was given once and is no longer."""
    await run(CliSettings(service_secret=SecretStr("y" * 40)), volumes)
    (volumes / lost / "secrets" / "service_secret").unlink(missing_ok=True)
    await run(CliSettings(), volumes)
    found = secrets_of(volumes)
    assert found["api/secrets/service_secret"] == found["storage/secrets/service_secret"]


async def test_rabbitmq_is_given_the_password_of_each_rooms_url_as_a_hash(volumes):
    await run(CliSettings(), volumes)
    definitions = json.loads((volumes / "rabbitmq" / "definitions.json").read_text())
    hashes = {user["name"]: base64.b64decode(user["password_hash"]) for user in definitions["users"]}
    for room in ("api", "notifier", "ops"):
        url = urlsplit(secrets_of(volumes)[f"{room}/secrets/broker_url"].strip())
        salt, hashed = hashes[url.username][:4], hashes[url.username][4:]
        assert hashlib.sha256(salt + url.password.encode()).digest() == hashed
        assert (url.hostname, url.path) == ("rabbitmq", f"/{broker_users.VHOST}")
    assert stat.S_IMODE((volumes / "rabbitmq" / "definitions.json").stat().st_mode) == 0o644, "another image's user"


async def test_grafana_is_given_the_password_of_its_admin(volumes):
    await run(CliSettings(), volumes)
    shared = volumes / "grafana" / "admin_password"
    assert shared.read_text() == (volumes / "ops" / "grafana_admin_password").read_text()
    assert stat.S_IMODE(shared.stat().st_mode) == 0o644, "another image's user"


async def test_a_secret_that_is_given_is_not_made(volumes):
    assert await run(CliSettings(jwt_secret=SecretStr("x" * 40), service_secret=SecretStr("y" * 40)), volumes) == 0
    assert not (volumes / "api/secrets/jwt_secret").exists()
    assert (volumes / "storage/secrets/service_secret").read_text().strip() == "y" * 40


async def test_a_short_secret_is_one_line_that_names_its_setting(volumes, capsys):
    with pytest.raises(SystemExit, match=str(EX_CONFIG)):
        await run(CliSettings(jwt_secret=SecretStr("short")), volumes)
    said = capsys.readouterr().err
    assert "LEADS_JWT_SECRET" in said
    assert said.count("\n") == 1


async def test_what_no_room_could_start_with_is_refused_before_a_running_one_is_replaced(volumes, capsys, monkeypatch):
    monkeypatch.setenv("LEADS_RESUME_KINDS", "exe")
    monkeypatch.setenv("LEADS_PROSPECT_MAILS_PER_DAY", "0")
    with pytest.raises(SystemExit, match=str(EX_CONFIG)):
        await run(CliSettings(), volumes)
    said = capsys.readouterr().err
    assert "LEADS_RESUME_KINDS" in said
    assert "LEADS_PROSPECT_MAILS_PER_DAY" in said
    assert secrets_of(volumes) == {}


async def test_a_password_for_a_login_that_exists_is_not_ignored_in_silence(volumes, capsys):
    await run(CliSettings(), volumes)
    capsys.readouterr()
    await run(CliSettings(admin_password=SecretStr("another-password")), volumes)
    assert "leads users passwd" in capsys.readouterr().out


async def test_a_volume_that_cannot_be_used_is_one_line(volumes, capsys):
    (volumes / "a-file").touch()
    with pytest.raises(SystemExit, match=str(EX_CONFIG)):
        await run(CliSettings(), volumes / "a-file")
    said = capsys.readouterr().err
    assert "cannot be used" in said
    assert said.count("\n") == 1
