"""The parts of `leads up` that need no process: back-off, addresses, banner, what a first start leaves."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.cli.banner import facts
from services.cli.init import StaffLogin
from services.cli.keeper import next_delay
from services.cli.prepared import is_prepared, remember
from services.cli.settings import CliSettings
from services.cli.up import rooms
from shared.settings import authority


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("LEADS_", "SENDGRID_"))]:
        monkeypatch.delenv(name)


def test_back_off_doubles_up_to_ten_seconds() -> None:
    delays = [0.0]
    for _ in range(9):
        delays.append(next_delay(delays[-1], lived_seconds=1.0))
    assert delays[1:] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]


@pytest.mark.parametrize(("lived_seconds", "delay"), [(29.9, 10.0), (30.0, 0.2)])
def test_back_off_begins_anew_after_thirty_seconds_of_life(lived_seconds: float, delay: float) -> None:
    assert next_delay(10.0, lived_seconds) == delay


@pytest.mark.parametrize(
    ("host", "reached_at"),
    [
        ("127.0.0.1", "127.0.0.1:8000"),
        ("0.0.0.0", "127.0.0.1:8000"),
        ("::", "[::1]:8000"),
        ("::1", "[::1]:8000"),
        ("leads.example", "leads.example:8000"),
    ],
)
def test_a_room_is_asked_where_this_machine_reaches_it(host: str, reached_at: str) -> None:
    assert authority(host, 8000) == reached_at
    settings = CliSettings(host=host, api_port=8000)
    assert rooms(settings)[-1].ready_url == f"http://{reached_at}/readyz"


def test_the_storage_stops_after_the_api() -> None:
    storage, _, _ = rooms(CliSettings())
    assert storage.needed_by == ("api",)


@pytest.mark.parametrize(
    ("settings", "fact"),
    [
        ({}, ("dev mailbox", "/srv/data/mailbox")),
        ({"mail_url": "file:///srv/mail"}, ("dev mailbox", "/srv/mail")),
        ({"mail_url": "sendgrid://"}, ("mail", "really sent, by SendGrid")),
        ({"sendgrid_api_key": SecretStr("SG.key")}, ("mail", "really sent, by SendGrid")),
    ],
)
def test_the_banner_says_where_mail_goes(settings: dict[str, object], fact: tuple[str, str]) -> None:
    assert fact in facts(CliSettings(data_dir=Path("/srv/data"), **settings), None)  # type: ignore[arg-type]


def test_the_banner_shows_no_password_that_was_given() -> None:
    settings = CliSettings(admin_password=SecretStr("given-by-someone"))
    assert "given-by-someone" not in str(facts(settings, StaffLogin("admin@leads.example", "given-by-someone")))


def test_a_first_start_is_remembered(tmp_path: Path) -> None:
    settings = CliSettings(data_dir=tmp_path)
    assert not is_prepared(settings)
    (tmp_path / "leads.db").touch()
    remember(settings)
    assert is_prepared(settings)


def test_a_database_that_is_gone_or_another_one_is_prepared_again(tmp_path: Path) -> None:
    settings = CliSettings(data_dir=tmp_path)
    database = tmp_path / "leads.db"
    database.touch()
    remember(settings)
    other = tmp_path / "other"
    other.touch()
    other.replace(database)
    assert not is_prepared(settings)
    database.unlink()
    assert not is_prepared(settings)


@pytest.mark.parametrize("kept", ["", "{}", "[]", "null", '{"databases": {"leads.db": 1}}', '{"databases": 3}'])
def test_a_note_that_makes_no_sense_is_no_note(tmp_path: Path, kept: str) -> None:
    (tmp_path / "leads.db").touch()
    (tmp_path / "prepared.json").write_text(kept)
    assert not is_prepared(CliSettings(data_dir=tmp_path))


def test_databases_elsewhere_are_always_prepared(tmp_path: Path) -> None:
    (tmp_path / "leads.db").touch()
    remember(CliSettings(data_dir=tmp_path))
    assert not is_prepared(CliSettings(data_dir=tmp_path, database_url="postgresql+asyncpg://db/leads"))
