"""Settings from the environment and from files, and that docker-compose.yml hands on every one of them."""

from pathlib import Path

import pytest
import yaml

from services.api.settings import ApiSettings
from services.notifier.settings import NotifierSettings
from services.storage.settings import StorageSettings
from shared.settings import Settings, load
from tests.harness.deployment import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
GIVEN_BY_CONTAINERS = {
    "LEADS_DATA_DIR",
    "LEADS_DATABASE_URL",
    "LEADS_NOTIFIER_DATABASE_URL",
    "LEADS_API_PORT",
    "LEADS_STORAGE_PORT",
    "LEADS_NOTIFIER_PORT",
}
"""The image says where data lie; ports are those of each container, and what is published is said for the machine."""

ONLY_FIRST_START = {"LEADS_ADMIN_PASSWORD"}
NOT_OF_THE_ROOM = {
    "api": set(),
    "storage": {"LEADS_BROKER_URL", "LEADS_RETRY_DELAYS_SECONDS"},
    "notifier": {"LEADS_SERVICE_SECRET"},
}
"""What all rooms could read, and this one has no use for."""


def names(settings: type[Settings]) -> set[str]:
    return {str(about.validation_alias or f"LEADS_{field}").upper() for field, about in settings.model_fields.items()}


def test_a_value_wins_over_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "url").write_text("sqlite:///from-the-file\n")
    monkeypatch.setenv("LEADS_BROKER_URL", "sqlite:///from-the-value")
    monkeypatch.setenv("LEADS_BROKER_URL_FILE", str(tmp_path / "url"))
    assert load(Settings).broker_url == "sqlite:///from-the-value"


@pytest.mark.parametrize("blank", ["", None])
def test_a_blank_value_beside_a_file_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, blank: str | None):
    """As a line of `.env` that was not filled in: it must not send events to a bus that nobody reads."""
    (tmp_path / "url").write_text("sqlite:///from-the-file\n")
    if blank is not None:
        monkeypatch.setenv("LEADS_BROKER_URL", blank)
    monkeypatch.setenv("LEADS_BROKER_URL_FILE", str(tmp_path / "url"))
    assert load(Settings).broker_url == "sqlite:///from-the-file"


@pytest.mark.parametrize(
    ("service", "settings"), [("api", ApiSettings), ("storage", StorageSettings), ("notifier", NotifierSettings)]
)
def test_compose_hands_every_setting_to_its_room(service: str, settings: type[Settings]):
    handed_on = set(COMPOSE["services"][service]["environment"])
    missing = names(settings) - handed_on - GIVEN_BY_CONTAINERS - ONLY_FIRST_START - NOT_OF_THE_ROOM[service]
    assert not missing


@pytest.mark.parametrize("service", ["audit", "leads", "init"])
def test_compose_tells_the_command_line_what_it_tells_the_rooms(service: str):
    """An audit with another grace than the api's would remove what the api protects."""
    handed_on = set(COMPOSE["services"][service]["environment"])
    read = {"LEADS_ORPHAN_GRACE_SECONDS", "LEADS_SWEEP_INTERVAL_SECONDS", "LEADS_NOTIFIER_CONCURRENCY"}
    assert read | {"LEADS_RETRY_DELAYS_SECONDS", "LEADS_STAFF_EMAIL", "SENDGRID_API_KEY"} <= handed_on
