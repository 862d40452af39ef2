"""Which processors a room keeps its loop to, and where the rest of its work may run (docs/decisions/0026).

`leads up` says so by an environment variable of its own making; nobody else sets it.
"""

import contextlib
import os

REST = "LEADS_REST_OF_PROCESSORS"
"""Those that the api's loop is not kept to, as `1,2,3`."""


def rest() -> frozenset[int]:
    """The processors for what takes long and is not the loop; empty where there is no such thing."""
    return frozenset(int(one) for one in os.environ.get(REST, "").split(",") if one.isdigit())


def run_on(processors: frozenset[int]) -> None:
    """Have this thread, and what it starts, run on these, if they are there."""
    if processors and hasattr(os, "sched_setaffinity"):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, processors)


def run_on_rest() -> None:
    """For a thread beside the loop."""
    run_on(rest())
