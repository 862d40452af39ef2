"""`python -m bench profile`: where api and storage spend their time while leads come in, by function.

py-spy looks at all threads of each process a hundred times a second, from outside; threads that wait are not counted.
The figures are shares of the samples of one process: `own` is time in the function itself, with the C code that it
calls (an fsync, the event loop), `total` with all that it calls.
"""

import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import kept, wrk
from bench.report import markdown_table
from bench.rounds import say
from bench.size import Size
from tests.harness.deployment import Deployment, deployed

ROOMS = ("api", "storage")
TOP = 30
RATE_HZ = 100
WARM_UP_SECONDS = 3
MISSING = "py-spy is not installed: `make bench` installs it (requirements/bench.txt)"


@dataclass(frozen=True)
class Spent:
    """Share of the samples, 0 to 1, that a function had for itself, and with all that it called."""

    function: str
    own: float
    total: float


async def profile(size: Size, folder: Path) -> str:
    """Both rooms under the intake's load, as Markdown. Raises `RuntimeError` when py-spy cannot look."""
    async with deployed(folder) as leads:
        await wrk.post_leads(f"{leads.api_url}/leads", WARM_UP_SECONDS)
        load, *files = await asyncio.gather(
            wrk.post_leads(f"{leads.api_url}/leads", size.profile_seconds + 2),
            *(_record(leads, room, size.profile_seconds, folder) for room in ROOMS),
        )
        say(f"profile: {load.per_second:,.0f} leads/s while it was looked at")
        await kept.wait_until_drained(leads)
        kept.check_nothing_is_missing(leads, load.accepted)
    return "\n".join(_section(room, file.read_text()) for room, file in zip(ROOMS, files, strict=True))


def is_here() -> bool:
    """Whether py-spy is installed."""
    return _py_spy() is not None


def spent(folded: str) -> tuple[int, list[Spent]]:
    """How many samples, and what each function had of them, most of its own first.

    `folded` has a line for each stack that was seen: its functions with `;` between them, outermost first, and how
    often. Line numbers are left out of account, and a function that is twice in a stack has it once.
    """
    own, total, samples = Counter[str](), Counter[str](), 0
    for line in folded.splitlines():
        stack, _, many = line.rpartition(" ")
        frames = [_function(frame) for frame in stack.split(";") if not frame.startswith(("process ", "thread "))]
        if not frames:
            continue
        samples += int(many)
        own[frames[-1]] += int(many)
        for function in set(frames):
            total[function] += int(many)
    found = [Spent(name, own[name] / samples, total[name] / samples) for name in total]
    return samples, sorted(found, key=lambda one: (-one.own, -one.total, one.function))


def _section(room: str, folded: str) -> str:
    samples, found = spent(folded)
    by_total = sorted(found, key=lambda one: (-one.total, one.function))
    about = f"## {room}\n\n{samples:,} samples of threads that were at work.\n"
    own, total = _table(found[:TOP]), _table(by_total[:TOP])
    return f"{about}\n**By own time**\n\n{own}\n**With all that is called**\n\n{total}"


def _table(of: Sequence[Spent]) -> str:
    rows = ((f"`{one.function}`", f"{one.own:.1%}", f"{one.total:.1%}") for one in of)
    return markdown_table(("function", "own", "total"), rows)


def _function(frame: str) -> str:
    """`name (path/to/file.py:12)` without the line: `name (path/to/file.py)`."""
    head, colon, line = frame.rpartition(":")
    return f"{head})" if colon and line.rstrip(")").isdecimal() else frame


async def _record(leads: Deployment, room: str, seconds: int, folder: Path) -> Path:
    file = folder / f"{room}.folded"
    program = _py_spy()
    if program is None:
        raise RuntimeError(MISSING)
    options = ["--rate", str(RATE_HZ), "--duration", str(seconds), "--format", "raw"]
    command = [program, "record", "--pid", str(leads.processes[room].pid), *options, "--output", str(file)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    _, errors = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"py-spy could not look at the {room}: {errors.decode()}")
    return file


def _py_spy() -> str | None:
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if beside.exists() else shutil.which("py-spy")


def main(size: Size) -> None:
    """Measure and print."""
    if not is_here():
        sys.exit(f"bench: {MISSING}")
    with tempfile.TemporaryDirectory(prefix="leads-bench-") as folder:
        print(asyncio.run(profile(size, Path(folder))))
