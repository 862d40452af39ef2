"""The program that reads resumes, as the api has it: started when there is something to read, ended when it hangs."""

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path

from services.api.resume_search import texts

PROGRAM = "services.api.resume_search.texts"
READ_WITHIN_SECONDS = 20.0
START_WITHIN_SECONDS = 30.0
READ_BY_ONE = 500
"""Then another one is started: what parsers keep of many files does not add up."""

_ROOT = Path(__file__).resolve().parents[3]
_LINE_MAX_BYTES = 4 * 1024 * 1024


class ReaderBroken(Exception):  # noqa: N818 - of this machine, not of a file
    """The program does not even start."""


class ResumeReader:
    """Reads one resume at a time. To be closed."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._left = 0

    async def words_of(self, kind: str, body: bytes) -> list[str] | None:
        """The words of a resume; None where they cannot be read, or not in time. Raises `ReaderBroken`."""
        for _ in range(2):  # it may have died of what it read before, or of the machine's need
            line = await self._answer(kind, body)
            if line:
                words: list[str] | None = json.loads(line)
                return words
        return None

    async def close(self) -> None:
        """End the program, whatever it is about."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _answer(self, kind: str, body: bytes) -> bytes:
        """A line of JSON; nothing where the program ended over it."""
        process = await self._started()
        try:
            async with asyncio.timeout(READ_WITHIN_SECONDS):
                line = await _ask(process, kind, body)
        except TimeoutError:
            await self.close()
            return b"null"
        self._left -= 1
        if not line or not self._left:
            await self.close()
        return line

    async def _started(self) -> Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        try:
            async with asyncio.timeout(START_WITHIN_SECONDS):
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    PROGRAM,
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
            raise ReaderBroken(str(error) or "it does not get ready") from error
        if said != texts.READY:
            await self.close()
            raise ReaderBroken("it ends by itself")
        self._left = READ_BY_ONE
        return self._process


async def _ask(process: Process, kind: str, body: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(ConnectionError):
        process.stdin.write(f"{kind} {len(body)}\n".encode() + body)
        await process.stdin.drain()
    return await process.stdout.readline()
