"""The program that reads resumes, as the api has it: started when there is something to read, ended when it hangs.

Whatever comes from it is taken for what a stranger's file may have made of it.
"""

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from shared.processors import rest

PROGRAM = "services.api.resume_search.texts"
READY = b"ready\n"
"""What it says first."""

KINDS = frozenset({"pdf", "docx", "odt", "txt"})
"""What it can read: not RTF and the old DOC."""

READ_WITHIN_SECONDS = 300.0
"""It bounds its own processor time: this is for a machine that gives it none."""

START_WITHIN_SECONDS = 60.0
READ_BY_ONE = 500
"""Then another one is started: what parsers keep of many files does not add up."""

_ROOT = Path(__file__).resolve().parents[3]
_LINE_MAX_BYTES = 4 * 1024 * 1024


class ReaderDied(Exception):  # noqa: N818
    """Over this file, or of the machine's need: nobody can tell."""


class ReaderBroken(Exception):  # noqa: N818
    """The program does not even start."""


class ResumeReader:
    """Reads one resume at a time. To be closed."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._left = 0

    async def words_of(self, kind: str, body: bytes) -> list[str] | None:
        """The words of a resume; None where they cannot be read. Raises `ReaderDied` and `ReaderBroken`."""
        for _ in range(2):  # it may have died of what it read before
            process = await self._started()
            try:
                async with asyncio.timeout(READ_WITHIN_SECONDS):
                    words = _understood(await _ask(process, kind, body))
            except (TimeoutError, ValueError, OSError, RuntimeError):  # the last is uvloop's of a pipe that is closed
                await self.close()
                continue
            self._left -= 1
            if not self._left:
                await self.close()
            return words
        raise ReaderDied

    async def close(self) -> None:
        """End the program, whatever it is about."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _started(self) -> Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        try:
            async with asyncio.timeout(START_WITHIN_SECONDS):
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    PROGRAM,
                    ",".join(map(str, rest())),  # where the loop is not in its way
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=DEVNULL,
                    cwd="/",
                    env={"PYTHONPATH": str(_ROOT)},  # and no secret
                    limit=_LINE_MAX_BYTES,
                )
                assert self._process.stdout is not None
                said = await self._process.stdout.readline()
        except (OSError, TimeoutError) as error:
            await self.close()
            raise ReaderBroken(str(error) or "the program that reads resumes does not get ready") from error
        if said != READY:
            await self.close()
            raise ReaderBroken("the program that reads resumes ends by itself")
        self._left = READ_BY_ONE
        return self._process


async def _ask(process: Process, kind: str, body: bytes) -> bytes:
    """A line of its; less than one where it ended over it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{kind} {len(body)}\n".encode())
    process.stdin.write(body)
    await process.stdin.drain()
    return await process.stdout.readline()


def _understood(line: bytes) -> list[str] | None:
    """Raises `ValueError` for what is no whole answer."""
    if not line.endswith(b"\n"):
        raise ValueError("it ended over its answer")
    words = json.loads(line)
    if words is not None and not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        raise ValueError("it answers something else")
    return words
