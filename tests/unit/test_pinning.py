"""The processors of rooms: the api has one, the others what is left, and none is shared out where there is one only."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from services.cli import pinning, tether
from services.cli.pinning import processors, settle
from services.cli.room import Room


@pytest.fixture(params=[{0, 1}, {2, 3, 5, 7}])
def usable(request, monkeypatch) -> set[int]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: request.param)
    monkeypatch.setattr(pinning, "Path", lambda _: SimpleNamespace(read_text=lambda: ""))
    return request.param


def test_the_api_has_one_and_the_others_have_the_rest(usable: set[int]):
    shares = processors("auto")
    assert len(shares["api"]) == 1
    assert shares["api"] < usable
    assert shares["storage"] == shares["notifier"] == usable - shares["api"]


def test_several_of_us_on_a_machine_do_not_all_take_the_same_one(usable: set[int]):
    assert set().union(*(processors("auto")["api"] for _ in range(200))) == usable


def test_the_api_has_one_that_devices_leave_alone(usable: set[int], monkeypatch):
    busy = max(usable)
    head = " ".join(f"CPU{one}" for one in range(busy + 1))
    disk = " ".join("56249284" if one == busy else "1345" for one in range(busy + 1))
    timer = " ".join("0" if one == busy else "99999999" for one in range(busy + 1))
    told = f"    {head}\n 36: {disk} PCI-MSIX disk\nLOC: {timer} Local timer interrupts\nERR: 0\n"
    monkeypatch.setattr(pinning, "Path", lambda _: SimpleNamespace(read_text=lambda: told))
    assert set().union(*(processors("auto")["api"] for _ in range(200))) == usable - {busy}


def test_nothing_is_shared_out_where_that_is_not_wanted_or_there_is_one_only(monkeypatch):
    assert processors("off") == {}
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert processors("auto") == {}


@pytest.mark.parametrize("wanted", [frozenset[int](), frozenset({max(os.sched_getaffinity(0))})])
def test_a_room_runs_where_it_is_told_to(wanted: frozenset[int]):
    tell = "import os; print(sorted(os.sched_getaffinity(0)))"
    room = Room("api", (sys.executable, "-c", tell), 1, "")
    told = subprocess.run(room.tethered_command(wanted), capture_output=True, text=True, check=True).stdout
    assert told.strip() == str(sorted(wanted or os.sched_getaffinity(0)))


def test_a_room_starts_on_others_when_its_processors_are_gone():
    command = (sys.executable, "-I", "-S", str(Path(tether.__file__)), str(os.getpid()), "1000", "true")
    assert subprocess.run(command, check=False).returncode == 0


def test_a_process_that_runs_settles_with_all_its_threads():
    one = max(os.sched_getaffinity(0))
    threads = "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"
    with subprocess.Popen(
        (sys.executable, "-c", f"{threads}; print('here', flush=True); time.sleep(60)"), stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        settle(process.pid, {one})
        tasks = [int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir()]
        assert [os.sched_getaffinity(task) for task in tasks] == [{one}, {one}]
        process.kill()
    settle(process.pid, {one})  # it is gone, and nobody minds
