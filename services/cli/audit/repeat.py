"""`leads audit --every-hours`: an audit now and then, each in a process of its own, so that waiting takes no memory."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

FIRST_AFTER_SECONDS = 60.0
"""What is started together with this may need so long until it can be read."""


def repeat(hours: float, options: Sequence[str], *, first_after_seconds: float = FIRST_AFTER_SECONDS) -> NoReturn:
    """Until SIGTERM or Ctrl-C. What an audit finds goes to its output, and into the api's metrics."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the first process of a container has no default
    with suppress(KeyboardInterrupt):
        time.sleep(first_after_seconds)
        while True:
            subprocess.run([sys.executable, "-m", "services.cli", "audit", *options], check=False)  # noqa: S603 - ours
            time.sleep(hours * 3600)
    sys.exit(0)
