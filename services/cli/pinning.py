"""Which processors each room runs on, where `leads up` runs all three (docs/decisions/0026-processors-of-rooms.md).

The api is one busy thread and a few that it waits for, and hands Python's lock (the GIL) from one to the other all the
time. Spread over processors it pays for each of these hand-overs, and for others that take turns with it on them.
"""

import os
import random
from collections.abc import Mapping

OFF = "off"


def processors(pinning: str) -> Mapping[str, frozenset[int]]:
    """The processors of each room by its name, as `LEADS_CPU_PINNING` says: one for the api, the others for the rest.

    Empty where there is nothing to share out, or that is not wanted. It is a random one, since several of us may run on
    a machine.
    """
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if pinning == OFF or len(usable) < 2:  # noqa: PLR2004
        return {}
    apis = frozenset({random.choice(sorted(usable))})  # noqa: S311 - no secret
    others = frozenset(usable) - apis
    return {"api": apis, "storage": others, "notifier": others}
