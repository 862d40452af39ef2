"""`./leads up` and `./leads init`: what a newcomer sees, with the real rooms."""

import os
import re
import signal
import socket
import stat
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.harness.deployment import ROOMS, ROOT, free_ports
from tests.harness.supervised import Supervised, started

LEADS = str(ROOT / "leads")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    ports = dict(zip(ROOMS, free_ports(len(ROOMS)), strict=True))
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LEADS_DATA_DIR": str(tmp_path / "data"),
        **{f"LEADS_{room.upper()}_PORT": str(port) for room, port in ports.items()},
    }


def test_a_first_start_shows_the_login_once_and_a_second_one_does_not(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    door = f"http://127.0.0.1:{environment['LEADS_API_PORT']}"
    first = _start_and_stop(tmp_path / "first", environment)
    second = _start_and_stop(tmp_path / "second", environment)
    for said in (first, second):
        for line in (f"API +{door}", f"docs +{door}/docs", f"dev mailbox +{tmp_path}/data/mailbox"):
            assert re.search(rf"^  {line}$", said, re.MULTILINE), said
    assert re.search(r"staff login admin@leads\.example  password: \S{12,}  \(shown only this once\)", first)
    assert "`./leads users passwd admin@leads.example` sets a new one" in second
    assert "password: " not in second


def test_everything_is_reachable_while_it_runs_and_gone_after(tmp_path: Path, environment: dict[str, str]) -> None:
    with started([LEADS, "up"], tmp_path / "output", environment) as leads:
        leads.wait_for("Ctrl-C stops")
        children = leads.children()
        for door in ("LEADS_API_PORT", "LEADS_STORAGE_PORT", "LEADS_NOTIFIER_PORT"):
            with urllib.request.urlopen(f"http://127.0.0.1:{environment[door]}/readyz", timeout=5) as answer:
                assert answer.status == 200
        rooms = _by_room(leads)
        assert os.sched_getscheduler(rooms["notifier"].pid) == os.SCHED_IDLE
        assert os.sched_getscheduler(rooms["api"].pid) == os.SCHED_OTHER
        if (autogroup := Path(f"/proc/{rooms['notifier'].pid}/autogroup")).exists():
            assert "nice 19" in autogroup.read_text()
        if len(os.sched_getaffinity(0)) > 1:
            assert len(os.sched_getaffinity(rooms["api"].pid)) == 1
            assert not os.sched_getaffinity(rooms["api"].pid) & os.sched_getaffinity(rooms["storage"].pid)
        leads.signal(signal.SIGTERM)
        assert leads.wait() == 0
    assert len(children) == 3
    assert not any(child.is_running() for child in children)
    assert "Traceback" not in leads.output


def test_what_a_first_start_makes_is_for_its_owner_only(tmp_path: Path, environment: dict[str, str]) -> None:
    assert _leads("init", environment).returncode == 0
    data = tmp_path / "data"
    assert _mode(data) == 0o700
    for name in ("jwt_secret", "service_secret"):
        assert _mode(data / "secrets" / name) == 0o600
        assert len((data / "secrets" / name).read_text().strip()) == 64


@pytest.mark.long
def test_two_first_starts_at_once_make_one_login(environment: dict[str, str]) -> None:
    both = [
        subprocess.Popen([LEADS, "init"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("password: " in out for out, _ in said) == 1


def test_a_given_password_is_not_printed(environment: dict[str, str]) -> None:
    given = {**environment, "LEADS_ADMIN_EMAIL": "me@leads.example", "LEADS_ADMIN_PASSWORD": "given-by-the-environment"}
    done = _leads("init", given)
    assert "staff login: me@leads.example (password as set by LEADS_ADMIN_PASSWORD)" in done.stdout
    assert "given-by-the-environment" not in done.stdout + done.stderr


def test_a_port_in_use_is_one_clear_line_and_makes_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", int(environment["LEADS_NOTIFIER_PORT"]))):
        done = _leads("up", environment)
    port = environment["LEADS_NOTIFIER_PORT"]
    assert done.stderr == f"leads: port {port} is in use: set LEADS_NOTIFIER_PORT to a free one\n"
    assert (done.returncode, done.stdout) == (os.EX_UNAVAILABLE, "")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("LEADS_API_PORT", "no-port", r"leads: LEADS_API_PORT is not valid: .*"),
        ("LEADS_HOST", "203.0.113.1", r"leads: 203\.0\.113\.1 is no address of this machine: set LEADS_HOST .*"),
        ("LEADS_DATA_DIR", "/dev/null/data", r"leads: LEADS_DATA_DIR: /dev/null/data: Not a directory\."),
        ("LEADS_SERVICE_SECRET", "short", r"leads: LEADS_SERVICE_SECRET is too short: .*"),
        ("LEADS_INTAKE_RATE", "often", r"leads: LEADS_INTAKE_RATE is not valid: .*"),
    ],
)
def test_a_setting_that_cannot_work_is_one_line(
    environment: dict[str, str], setting: str, value: str, said: str
) -> None:
    done = _leads("up", {**environment, setting: value})
    assert re.fullmatch(said + "\n", done.stderr), done.stderr
    assert done.returncode in {os.EX_CONFIG, os.EX_UNAVAILABLE}


@pytest.mark.long
def test_a_setting_that_only_one_room_reads_stops_them_all_with_its_line(environment: dict[str, str]) -> None:
    assert _leads("init", environment).returncode == 0
    done = _leads("up", {**environment, "LEADS_INTAKE_RATE": "often"})
    assert re.fullmatch(r"leads: LEADS_INTAKE_RATE is not valid: .*\n", done.stderr), done.stderr
    assert done.returncode == os.EX_CONFIG
    assert "starting it again" not in done.stdout


def test_two_rooms_on_one_port_are_told_apart(environment: dict[str, str]) -> None:
    done = _leads("up", {**environment, "LEADS_STORAGE_PORT": environment["LEADS_API_PORT"]})
    port = environment["LEADS_API_PORT"]
    assert done.stderr == f"leads: LEADS_STORAGE_PORT and LEADS_API_PORT are both {port}: they must differ.\n"
    assert done.returncode == os.EX_CONFIG


@pytest.mark.long
def test_a_database_that_was_deleted_is_made_again(tmp_path: Path, environment: dict[str, str]) -> None:
    assert "password: " in _leads("init", environment).stdout
    assert "password: " not in _leads("init", environment).stdout
    (tmp_path / "data" / "leads.db").unlink()
    assert "password: " in _leads("init", environment).stdout


@pytest.mark.long
def test_leads_runs_from_any_folder_with_the_paths_of_that_folder(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").write_text("raise RuntimeError('not ours')\n")
    done = _leads("init", {**environment, "LEADS_DATA_DIR": "here"}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / "secrets" / "jwt_secret").exists()


def _start_and_stop(output: Path, environment: dict[str, str]) -> str:
    with started([LEADS, "up"], output, environment) as leads:
        leads.wait_for("Ctrl-C stops")
        leads.signal(signal.SIGINT)
        assert leads.wait() == 0
    return leads.output


def _by_room(leads: Supervised) -> dict[str, object]:
    return {child.cmdline()[-1].removeprefix("services."): child for child in leads.children()}


def _leads(command: str, environment: dict[str, str], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LEADS, command], env=environment, cwd=cwd, capture_output=True, text=True, timeout=60, check=False
    )


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
