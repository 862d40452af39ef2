"""Which processors each room runs on, where `leads up` runs all three (docs/decisions/0026-processors-of-rooms.md).

The api is one busy thread and a few that it waits for, and hands Python's lock (the GIL) from one to the other all the
time. Spread over processors it pays for each of these hand-overs, and for others that take turns with it on them.
"""

import contextlib
import os
import random
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

OFF = "off"
FEWEST, MOST = 2, 4


def processors(pinning: str) -> Mapping[str, frozenset[int]]:
    """The processors of each room by its name, as `LEADS_CPU_PINNING` says: one for the api, the others for the rest.

    Empty where there is nothing to share out, or that is not wanted; and where there are many, since the scheduler has
    room then, and nobody has measured it. The api's is one that devices leave alone, and a
    random one of these, since several of us may run on a machine.
    """
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if pinning == OFF or not FEWEST <= len(usable) <= MOST:
        return {}
    apis = frozenset({random.choice(_quiet(usable))})  # noqa: S311 - no secret
    others = frozenset(usable) - apis
    return {"api": apis, "storage": others, "notifier": others}


def settle(pid: int, on: Collection[int]) -> None:
    """Have a process that runs, with its threads, go on on these processors, if it and they are still there."""
    seen: set[int] = set()
    while new := _threads(pid) - seen:  # one that is started meanwhile may be of one that was not moved yet
        for thread in new:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(thread, on)
        seen |= new


def _threads(pid: int) -> set[int]:
    try:
        return {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()}
    except OSError:
        return set()


def _quiet(usable: Collection[int]) -> list[int]:
    """Those that devices have interrupted at most twice as often as the one that they have least."""
    counts = _device_interrupts()
    least = min(counts.get(one, 0) for one in usable)
    return [one for one in sorted(usable) if counts.get(one, 0) <= 2 * least]


def _device_interrupts() -> dict[int, int]:
    """How often devices have interrupted each processor (/proc/interrupts in proc(5)); empty where nobody tells."""
    counts: Counter[int] = Counter()
    try:
        names, *lines = Path("/proc/interrupts").read_text().splitlines()
        numbers = [int(name.removeprefix("CPU")) for name in names.split()]
        for source, *told in (line.split() for line in lines):
            if source.rstrip(":").isdigit():  # the others are the processors' own: timers, calls to one another
                counts.update(dict(zip(numbers, map(int, told[: len(numbers)]), strict=True)))
    except (OSError, ValueError):
        return {}
    return counts
