"""System calls of running processes, watched with strace: what was asked of the kernel, and in which order.

strace writes one line when a call begins and completes it when the call ends, unless another thread comes between:
then the end is a line of its own (`<unfinished ...>`, `<... resumed>`). So the numbers of the lines say what was
before what, across all threads and processes of one trace: strace holds a thread at both ends of a call meanwhile.
"""

import asyncio
import re
import shutil
import signal
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

MISSING = "strace is not installed: apt-get install strace"
ATTACH_SECONDS = 10.0

_LINE = re.compile(r"(?P<thread>\d+) +(?P<at>\d+\.\d+) (?P<what>.*)", re.DOTALL)
_ENDED = re.compile(r"(?P<head>.*)\) += (?P<result>.+?)(?: <(?P<seconds>[\d.]+)>)?", re.DOTALL)
_BEGUN = re.compile(r"(?P<name>\w+)\((?P<arguments>.*)", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)", re.DOTALL)
_DESCRIPTOR = re.compile(r"\d+<(?P<file>TCP[^\]]*\]|[^>]*)>")
_UNFINISHED = " <unfinished ...>"


class TraceForbidden(Exception):  # noqa: N818
    """The kernel lets nobody look, as in most containers; the message is what strace says."""


@dataclass(frozen=True)
class Call:
    """One system call that ended. `began` and `ended` are numbers of lines, `at` is when it began (Unix time)."""

    name: str
    arguments: str
    began: int
    thread: int = 0
    at: float = 0.0
    result: str = ""
    ended: int = -1
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether the kernel refused."""
        return self.result.startswith("-1")

    @property
    def file(self) -> str:
        """What the first argument, a descriptor, stands for: a path, or `TCP:[here->there]`; empty when it is none."""
        found = _DESCRIPTOR.match(self.arguments)
        return found["file"] if found else ""


def find_strace() -> str | None:
    """Where strace is installed, if it is."""
    return shutil.which("strace")


@asynccontextmanager
async def tracing(pids: Sequence[int], into: Path, calls: Sequence[str], *, string_bytes: int) -> AsyncIterator[None]:
    """Watch these processes, with all threads, for as long as the block runs; `read_calls(into)` reads it afterwards.

    Strings are written down up to `string_bytes`. Raises `TraceForbidden`.
    """
    strace = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-ttt", "-T", "-yy", "-s", str(string_bytes), "-e", f"trace={','.join(calls)}"),
        *("-o", str(into), *(f"--attach={pid}" for pid in pids)),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await _attached(strace, len(pids))
        yield
    finally:
        if strace.returncode is None:
            strace.send_signal(signal.SIGINT)
        await strace.communicate()


async def _attached(strace: asyncio.subprocess.Process, count: int) -> None:
    assert strace.stderr is not None
    async with asyncio.timeout(ATTACH_SECONDS):
        while count:
            line = (await strace.stderr.readline()).decode()
            if not line or "Operation not permitted" in line:
                raise TraceForbidden(line.strip() or "strace ended at once")
            count -= " attached" in line


def read_calls(trace: Path) -> Iterator[Call]:
    """The calls of a trace, in the order in which they ended."""
    with trace.open(errors="replace") as lines:
        yield from parse(lines)


def parse(lines: Iterable[str]) -> Iterator[Call]:
    """The calls that these lines tell of, in the order in which they ended. What never ended is left out."""
    unfinished: dict[int, Call] = {}
    for number, line in enumerate(lines):
        found = _LINE.fullmatch(line.rstrip("\n"))
        if found is None:
            continue
        thread, what = int(found["thread"]), found["what"]
        if resumed := _RESUMED.fullmatch(what):
            begun = unfinished.pop(thread, None)
            if begun is not None and begun.name == resumed["name"]:
                yield from _ended(begun, resumed["rest"], number)
        elif started := _BEGUN.fullmatch(what):
            begun = Call(started["name"], started["arguments"], number, thread, float(found["at"]))
            if what.endswith(_UNFINISHED):
                unfinished[thread] = replace(begun, arguments=begun.arguments.removesuffix(_UNFINISHED))
            else:
                yield from _ended(replace(begun, arguments=""), begun.arguments, number)


def _ended(begun: Call, rest: str, number: int) -> Iterator[Call]:
    """`rest` is what the line says of the call up to its end; nothing when it does not say one (`<detached ...>`)."""
    if found := _ENDED.fullmatch(rest):
        yield replace(
            begun,
            arguments=begun.arguments + found["head"],
            result=found["result"],
            ended=number,
            seconds=float(found["seconds"] or 0),
        )
