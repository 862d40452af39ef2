"""`python -m services.notifier`: the notifier as a process of its own."""

import contextlib
import os
from pathlib import Path

from services.notifier.main import create_app
from services.notifier.settings import NotifierSettings
from shared.launch import launch

NICENESS = 19


def yield_to_others() -> None:
    """Run on what the rest of the machine leaves: a person waits for the 201, nobody for the e-mail.

    As SCHED_IDLE (sched(7)) it gives way at once to whatever wakes up, which a high nice value alone does not bring
    about. It still gets some three thousandths of a core that others want all of. Where the kernel shares out cores by
    session ("The autogroup feature" there), that holds among the processes of a session only, and the session as a
    whole is to be nice. Containers are told by their runtime: `cpu_shares` in docker-compose.yml.
    """
    os.nice(NICENESS)
    with contextlib.suppress(OSError, AttributeError):  # another kernel, or forbidden: nice it is, then
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if os.getsid(0) == os.getpid():  # else it is not ours
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICENESS))


if __name__ == "__main__":
    yield_to_others()
    launch("notifier", NotifierSettings, create_app, lambda settings: settings.notifier_port)
