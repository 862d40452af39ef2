"""The notifier runs on what the rest of the machine leaves: a person waits for the 201, nobody for the e-mail.

As SCHED_IDLE (sched(7)) it gives way at once to whatever wakes up, which a high nice value alone does not bring about.
It still gets some three thousandths of a core that others want all of. Where the kernel shares cores out by session
("The autogroup feature" there) that holds among the processes of a session, and the session as a whole is made nice.
Containers are told by their runtime: `cpu_shares` in docker-compose.yml.
"""

import contextlib
import os
from pathlib import Path

NICENESS = 19


def yield_to_others() -> None:
    """From now on, with all threads that there are: to get ready it takes what it gets."""
    with contextlib.suppress(OSError, AttributeError):  # another kernel, or forbidden: it is not so nice, then
        for task in Path("/proc/self/task").iterdir():
            os.setpriority(os.PRIO_PROCESS, int(task.name), NICENESS)
            os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))
    if os.getsid(0) == os.getpid():  # else it is not ours
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICENESS))
