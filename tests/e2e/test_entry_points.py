"""`python -m services.X`: every room starts by its module name, and says in one line what it cannot start without."""

import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.deployment import ROOMS, ROOT, free_ports

SECRETS = {"LEADS_JWT_SECRET": secrets.token_urlsafe(48), "LEADS_SERVICE_SECRET": secrets.token_urlsafe(48)}


@pytest.mark.parametrize(
    ("room", "missing"),
    [("api", "LEADS_JWT_SECRET"), ("api", "LEADS_SERVICE_SECRET"), ("storage", "LEADS_SERVICE_SECRET")],
)
def test_a_missing_secret_is_one_line_that_names_it(tmp_path: Path, room: str, missing: str) -> None:
    given = {name: value for name, value in SECRETS.items() if name != missing}
    done = _start(room, tmp_path, given)
    assert done.returncode == os.EX_CONFIG, done
    assert done.stderr.startswith(f"leads: {missing} is not set")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("room", "name", "secret"),
    [
        ("api", "LEADS_JWT_SECRET", ""),
        ("api", "LEADS_JWT_SECRET", "x" * 31),
        ("storage", "LEADS_SERVICE_SECRET", "x" * 31),
    ],
)
def test_an_empty_or_short_secret_is_one_line_that_names_it(tmp_path: Path, room: str, name: str, secret: str) -> None:
    done = _start(room, tmp_path, {**SECRETS, name: secret})
    assert done.returncode == os.EX_CONFIG, done
    assert done.stderr.startswith(f"leads: {name} is too short")
    assert done.stderr.count("\n") == 1
    assert not secret or secret not in done.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_a_setting_that_is_not_valid_is_one_line_that_names_it(tmp_path: Path, room: str) -> None:
    done = _start(room, tmp_path, {**SECRETS, "LEADS_LOG_LEVEL": "LOUD"})
    assert done.returncode == os.EX_CONFIG, done
    assert done.stderr.startswith("leads: LEADS_LOG_LEVEL is not valid")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("room", ROOMS)
def test_a_port_in_use_is_one_line_that_names_the_setting(tmp_path: Path, room: str) -> None:
    setting = f"LEADS_{room.upper()}_PORT"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = _start(room, tmp_path, {**SECRETS, setting: str(taken.getsockname()[1])})
    assert done.returncode == os.EX_UNAVAILABLE, done
    assert setting in done.stderr
    assert done.stderr.count("\n") == 1


def _start(room: str, folder: Path, given: dict[str, str]) -> subprocess.CompletedProcess[str]:
    ports = zip(ROOMS, free_ports(len(ROOMS)), strict=True)
    environment = {
        "PATH": os.environ["PATH"],
        "LEADS_DATA_DIR": str(folder / "data"),
        **{f"LEADS_{name.upper()}_PORT": str(port) for name, port in ports},
        **given,
    }
    return subprocess.run(
        [sys.executable, "-m", f"services.{room}"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
