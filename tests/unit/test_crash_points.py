"""A room made to die at a step dies there, at the pass that was asked for; a step that the code lost is noticed."""

import json
import signal
import subprocess
import sys

import pytest

from tests.harness.crash_points import REACHED, CrashPoint, main, seam_fault
from tests.harness.crash_steps import STEPS, Seam, When
from tests.harness.deployment import ROOT

SEAMS = [
    pytest.param(seam, id=f"{room}: {name}: {seam.attribute}")
    for room, steps in STEPS.items()
    for name, step in steps.items()
    for seam in step.seams
]

PASSING_TWICE = """
import asyncio
from signal import SIGKILL, SIGTERM, signal
from tests.harness.crash_points import CrashPoint, arm
signal(SIGTERM, lambda *_: print("told to stop", flush=True))
arm(CrashPoint("api", "marked", 1, SIGTERM))
arm(CrashPoint("api", "marked", 2, SIGKILL))
from shared.relay import Relay
for number in range(3):
    asyncio.run(Relay(None, None)._mark([]))
    print(number, flush=True)
"""


@pytest.mark.parametrize("seam", SEAMS)
def test_every_seam_is_there(seam: Seam):
    assert seam_fault(seam) is None


@pytest.mark.parametrize("attribute", ["Relay.renamed", "Gone.run", "BATCH"])
def test_a_seam_that_was_renamed_is_noticed(attribute: str):
    assert seam_fault(Seam("shared.relay", attribute, When.BEFORE)) is not None


def test_a_process_goes_on_when_told_to_stop_at_a_step_and_ends_when_killed_there():
    command = [sys.executable, "-c", PASSING_TWICE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["told to stop", "0"]
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert said == [{"event": REACHED, "step": "marked", "pass": number} for number in (1, 2)]
    assert done.returncode == -signal.SIGKILL


def test_a_step_that_there_is_not_is_refused_with_those_that_there_are(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", list(CrashPoint("api", "named").command[2:]))
    with pytest.raises(SystemExit):
        main()
    assert "'row committed'" in capsys.readouterr().err
