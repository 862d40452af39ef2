"""Ties a room to its supervisor, then becomes the room: run by its path as `tether.py PID PROCESSORS COMMAND...`.

The kernel sends the room SIGTERM when the supervisor is gone, however it went (PR_SET_PDEATHSIG in prctl(2), which
execve(2) keeps). This is a program and no `preexec_fn`, since that one may lock up in a process with threads, and
asyncio has one for each child on Python 3.11. It imports nothing of ours: it runs without site-packages, within 20 ms.
"""

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
EXIT_NOT_FOUND = 127
EXIT_TERMINATED = 128 + signal.SIGTERM


def main(supervisor_pid: int, processors: str, command: list[str]) -> None:
    """Becomes `command`, on these processors (`0,1`; empty: on any).

    It exits 127 when there is no such program, 143 when the supervisor is gone already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != supervisor_pid:  # it went before the kernel knew of the tie
        sys.exit(EXIT_TERMINATED)
    if processors:
        with contextlib.suppress(OSError):  # taken from us meanwhile: it runs all the same
            os.sched_setaffinity(0, map(int, processors.split(",")))
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming the room is the point; no shell is wanted
    except OSError as error:
        sys.stderr.write(f"leads: {command[0]} cannot be run ({error.strerror}).\n")
        sys.exit(EXIT_NOT_FOUND)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
