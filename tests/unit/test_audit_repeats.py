"""`leads audit --every-hours` audits again and again, and ends when it is told to, also as a container's first."""

import os
import signal
import subprocess
import sys
import time

from tests.harness.deployment import ROOT

PROGRAM = """
from services.cli.audit import repeat
repeat.subprocess.run = lambda command, check: print(command[2:], flush=True)
repeat.repeat(0.05 / 3600, ["--deep"], first_after_seconds=0.0)
"""


def test_it_goes_on_until_it_is_told_to_stop_and_stops_well():
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(3)]
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    assert lines == ["['services.cli', 'audit', '--deep']"] * 3
    assert time.monotonic() - began < 2
