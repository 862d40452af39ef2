"""`leads up` over stand-in rooms: real processes, real signals."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.harness.supervised import Supervised, stand_in, supervised


def test_a_crashed_room_is_restarted_with_growing_delays_and_each_time_said(tmp_path: Path) -> None:
    with supervised([stand_in("storage"), stand_in("api", "--exit", "3")], tmp_path / "output") as leads:
        leads.wait_for("starting it again", times=3)
        said = [event for event in leads.events if event["event"] == "room ended, starting it again"][:3]
    assert [(event["room"], event["exit_code"]) for event in said] == [("api", 3)] * 3
    assert [event["delay_seconds"] for event in said] == [0.2, 0.4, 0.8]


def test_a_killed_room_comes_back_and_the_signal_is_named(tmp_path: Path) -> None:
    with supervised([stand_in("api")], tmp_path / "output") as leads:
        leads.wait_for("ready")
        (before,) = leads.children()
        before.kill()
        leads.wait_for("SIGKILL")
        after = _wait_for_a_child_other_than(leads, before.pid)
    assert after.pid != before.pid


def test_a_stop_is_clean_and_leaves_no_process(tmp_path: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with supervised([stand_in("storage"), stand_in("api")], tmp_path / "output") as leads:
            leads.wait_for("ready")
            children = leads.children()
            leads.signal(number)
            assert leads.wait() == 0
        assert len(children) == 2
        assert not any(child.is_running() for child in children)


def test_a_room_that_another_needs_is_told_to_stop_after_that_one_has_gone(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    storage = stand_in("storage", "--journal", str(journal), "storage", needed_by=("api",))
    api = stand_in("api", "--linger", "0.5", "--journal", str(journal), "api")
    with supervised([storage, api], tmp_path / "output") as leads:
        leads.wait_for("ready")
        leads.signal(signal.SIGTERM)
        assert leads.wait() == 0
    assert journal.read_text().splitlines()[2:] == ["api told", "api gone", "storage told", "storage gone"]


def test_a_stop_while_starting_up_is_clean_too(tmp_path: Path) -> None:
    never_ready = stand_in("api")
    never_ready = type(never_ready)("api", never_ready.command, never_ready.port, "http://127.0.0.1:1/readyz")
    with supervised([never_ready], tmp_path / "output") as leads:
        deadline = time.monotonic() + 10
        while not leads.children() and time.monotonic() < deadline:
            time.sleep(0.01)
        children = leads.children()
        leads.signal(signal.SIGINT)
        assert leads.wait() == 0
    assert children
    assert not any(child.is_running() for child in children)
    assert "ready" not in leads.output.splitlines()


def test_a_second_ctrl_c_kills_at_once(tmp_path: Path) -> None:
    with supervised([stand_in("api", "--deaf")], tmp_path / "output") as leads:
        leads.wait_for("ready")
        children = leads.children()
        leads.signal(signal.SIGINT)
        time.sleep(0.5)
        began_at = time.monotonic()
        leads.signal(signal.SIGINT)
        assert leads.wait() == 1
        assert time.monotonic() - began_at < 2
    assert "a second Ctrl-C" in leads.output
    assert not any(child.is_running() for child in children)


@pytest.mark.long
def test_a_room_that_does_not_end_is_killed_after_ten_seconds_and_said(tmp_path: Path) -> None:
    with supervised([stand_in("storage"), stand_in("api", "--deaf")], tmp_path / "output") as leads:
        leads.wait_for("ready")
        children = leads.children()
        began_at = time.monotonic()
        leads.signal(signal.SIGTERM)
        assert leads.wait() == 1
        assert 9.5 < time.monotonic() - began_at < 12
    killed = [event for event in leads.events if event["event"] == "room killed"]
    assert [event["room"] for event in killed] == ["api"]
    assert not any(child.is_running() for child in children)


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    room = stand_in("api")
    with supervised([room], tmp_path / "first") as first:
        first.wait_for("ready")
        with supervised([stand_in("storage"), room], tmp_path / "second") as second:
            assert second.wait() == os.EX_UNAVAILABLE
        assert second.output == f"leads: port {room.port} is in use: set LEADS_API_PORT to a free one\n"
        assert first.process.poll() is None


def test_a_room_whose_settings_cannot_work_stops_all_and_is_not_tried_again(tmp_path: Path) -> None:
    rooms = [stand_in("storage"), stand_in("api", "--exit", str(os.EX_CONFIG), "--after", "0.3")]
    with supervised(rooms, tmp_path / "output") as leads:
        leads.wait_for("ready")
        children = leads.children()
        assert leads.wait() == os.EX_CONFIG
    assert "starting it again" not in leads.output
    assert not any(child.is_running() for child in children)


def test_a_port_lost_between_check_and_start_stops_all(tmp_path: Path) -> None:
    lost = stand_in("api", "--exit", str(os.EX_UNAVAILABLE))
    lost = type(lost)("api", lost.command, lost.port, "http://127.0.0.1:1/readyz")
    with supervised([stand_in("storage"), lost], tmp_path / "output") as leads:
        assert leads.wait() == os.EX_UNAVAILABLE
    assert "starting it again" not in leads.output


def test_no_room_outlives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    with supervised([stand_in("storage"), stand_in("api")], tmp_path / "output") as leads:
        leads.wait_for("ready")
        children = leads.children()
        leads.signal(signal.SIGKILL)
        leads.wait()
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert (len(gone), alive) == (2, [])


def _wait_for_a_child_other_than(leads: Supervised, pid: int) -> psutil.Process:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for child in leads.children():
            if child.pid != pid and child.status() != psutil.STATUS_ZOMBIE:
                return child
        time.sleep(0.02)
    raise AssertionError(leads.output)
