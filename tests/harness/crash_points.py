"""Starts a room that sends itself a signal at the N-th pass of a step, so that it dies there and nowhere else:

    python -m tests.harness.crash_points notifier --at "answer read" --pass 7 --signal KILL

The room is the real one: its functions are wrapped here before `services.<room>.__main__` runs, and what runs in
production knows nothing of it. Which steps there are stands in `crash_steps`.
"""

import argparse
import inspect
import itertools
import json
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from signal import SIGKILL, Signals
from types import ModuleType
from typing import Any

from tests.harness.crash_steps import STEPS, Seam, Step, When

REACHED = "crash point reached"
"""What the room's log says just before the signal."""


@dataclass(frozen=True)
class CrashPoint:
    """The moment at which a room is to get a signal: the N-th pass of one of its steps."""

    room: str
    step: str
    passes: int = 1
    signal: Signals = SIGKILL

    @property
    def command(self) -> Sequence[str]:
        """The command that starts the room with it."""
        name = self.signal.name.removeprefix("SIG")
        options = ("--at", self.step, "--pass", str(self.passes), "--signal", name)
        return (sys.executable, "-m", __name__, self.room, *options)

    def __str__(self) -> str:
        return f"{self.room}: {self.step} ({self.passes})"


def arm(point: CrashPoint) -> None:
    """Wrap the functions at the seams of the step. Raises `AttributeError` for one that is not there any more."""
    counter = _Counter(point)
    for seam in STEPS[point.room][point.step].seams:
        owner, name = _place(seam)
        setattr(owner, name, _wrapped(getattr(owner, name), seam, counter))


def seam_fault(seam: Seam) -> str | None:
    """Why the seam cannot be wrapped; None when it can."""
    try:
        function: Any = import_module(seam.module)
        for part in seam.attribute.split("."):
            function = getattr(function, part)
    except (ImportError, AttributeError) as error:
        return str(error)
    return None if callable(function) else f"{seam.attribute} is no function"


class _Counter:
    """Counts the passes over all seams of a step, whichever threads they are on, and ends the process at its pass."""

    def __init__(self, point: CrashPoint) -> None:
        self._point = point
        self._passes = itertools.count(1)

    def __call__(self) -> None:
        if next(self._passes) == self._point.passes:
            record = {"event": REACHED, "step": self._point.step, "pass": self._point.passes}
            os.write(sys.stderr.fileno(), json.dumps(record).encode() + b"\n")
            os.kill(os.getpid(), self._point.signal)


class _Borrowed(ModuleType):
    """A foreign module as one of ours sees it: what is replaced in it is replaced for nobody else."""

    def __init__(self, lender: ModuleType) -> None:
        super().__init__(lender.__name__)
        self._lender = lender

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lender, name)


def _place(seam: Seam) -> tuple[Any, str]:
    """Where the seam's function is looked up when it is called, and its name there."""
    *path, name = seam.attribute.split(".")
    owner: Any = import_module(seam.module)
    for part in path:
        inner = getattr(owner, part)
        if isinstance(inner, ModuleType):
            inner = _Borrowed(inner)
            setattr(owner, part, inner)
        owner = inner
    return owner, name


def _wrapped(function: Callable[..., Any], seam: Seam, passing: Callable[[], None]) -> Callable[..., Any]:
    """`function` that tells of each pass that counts. One that raised was not passed."""

    def passes(when: When, *arguments: Any, **named: Any) -> None:
        if when is seam.when and seam.counts(*arguments, **named):
            passing()

    @wraps(function)
    async def awaited(*arguments: Any, **named: Any) -> Any:
        passes(When.BEFORE, *arguments, **named)
        result = await function(*arguments, **named)
        passes(When.AFTER, *arguments, **named)
        return result

    @wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        passes(When.BEFORE, *arguments, **named)
        result = function(*arguments, **named)
        passes(When.AFTER, *arguments, **named)
        return result

    return awaited if inspect.iscoroutinefunction(function) else called


def _chosen() -> CrashPoint:
    parser = argparse.ArgumentParser(description="Start a room that gets a signal at a step.")
    parser.add_argument("room", choices=STEPS)
    parser.add_argument("--at", required=True, metavar="STEP")
    parser.add_argument("--pass", type=int, default=1, dest="passes", metavar="N")
    parser.add_argument("--signal", choices=["KILL", "TERM", "STOP"], default="KILL")
    chosen = parser.parse_args()
    if chosen.at not in STEPS[chosen.room]:
        parser.error(f"the {chosen.room} has no step {chosen.at!r}, but: {_listed(STEPS[chosen.room])}")
    return CrashPoint(chosen.room, chosen.at, chosen.passes, Signals[f"SIG{chosen.signal}"])


def _listed(steps: "dict[str, Step]") -> str:
    return ", ".join(repr(name) for name in steps)


def main() -> None:
    """Arm the chosen point and become the room."""
    point = _chosen()
    arm(point)
    runpy.run_module(f"services.{point.room}", run_name="__main__")


if __name__ == "__main__":
    main()
