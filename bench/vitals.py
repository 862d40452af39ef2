"""What a room takes while it works: memory, descriptors, threads, sampled from outside; and whether they grow."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import psutil

from tests.harness.deployment import Deployment

MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """One room at one moment. `leads` were accepted until then."""

    at_hours: float
    leads: int
    rss_mib: float
    fds: int
    threads: int


@dataclass(frozen=True)
class Growth:
    """How a room grew over the time that was looked at."""

    mib_per_hour: float
    mib_per_100_000_leads: float
    first_mib: float
    last_mib: float
    fds: tuple[int, int]
    """Least and most."""
    threads: tuple[int, int]


def sample(deployment: Deployment, leads: int) -> dict[str, Sample]:
    """Each room now. A room that is just restarted is left out."""
    at_hours, samples = time.monotonic() / 3600, {}
    for room, process in deployment.processes.items():
        try:
            seen = psutil.Process(process.pid)
            with seen.oneshot():
                rss = seen.memory_info().rss
                samples[room] = Sample(at_hours, leads, rss / MIB, seen.num_fds(), seen.num_threads())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return samples


def growth(samples: Sequence[Sample]) -> Growth:
    """The growth over the second half of the samples; needs two of them there.

    The first half is for warming up: page caches fill, each thread gets its malloc arena. The slope is the median of
    the slopes between all pairs (Theil-Sen): memory moves in steps, and one step, wherever it comes, decides nothing.
    """
    seen = samples[len(samples) // 2 :]
    tenth = max(len(seen) // 10, 1)
    fds = [one.fds for one in seen]
    threads = [one.threads for one in seen]
    rss = [one.rss_mib for one in seen]
    return Growth(
        mib_per_hour=_slope([one.at_hours for one in seen], rss),
        mib_per_100_000_leads=_slope([one.leads / 100_000 for one in seen], rss),
        first_mib=statistics.median(rss[:tenth]),
        last_mib=statistics.median(rss[-tenth:]),
        fds=(min(fds), max(fds)),
        threads=(min(threads), max(threads)),
    )


def descriptors_left_over(before: Mapping[str, Sample], after: Mapping[str, Sample]) -> dict[str, int]:
    """Under load a room has as many connections as there once were requests at a time; at rest each is closed again."""
    return {room: after[room].fds - one.fds for room, one in before.items()}


def _slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    pairs = combinations(zip(xs, ys, strict=True), 2)
    return statistics.median((y - y0) / (x - x0) for (x0, y0), (x, y) in pairs if x != x0)
