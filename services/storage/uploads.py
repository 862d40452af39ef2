"""Bodies that come straight from their senders, in as many requests as it takes.

What has come lies in a file of `.incoming` (`folder.part_name`), and how long that is says where to go on: nothing else
has to be kept in step with it. It survives a broken connection and the end of this process, but not the machine's: what
of an unfinished file reached the disk then, nobody knows, and its sender begins again. The whole one becomes a blob, by
its name where blobs are files, by a put where they are objects (`adoption`).
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import TypeVar

from services.storage.adoption import Adopter
from services.storage.blobs import RETRY_AFTER_SECONDS, BlobExists
from services.storage.bodies import pieces
from services.storage.folder import INCOMING, leave_enough_free, open_private, part_name, refusal, remove, write_all
from shared.disposition import attachment
from shared.problems import Problem, ProblemType
from shared.tickets import Ticket

UPLOADS_AT_ONCE = 256
"""Most bodies that arrive at a time. Each holds a piece of 128 KiB and what its socket holds: some 50 MiB for all."""

LOOKS_AT_ONCE = 16
"""Most questions to a bucket, which costs a little for each, whether a blob is there: strangers can have them asked."""

Result = TypeVar("Result")


class Uploads:
    """Unfinished bodies in `folder`, each for a ticket. Every verb raises `StorageBroken`.

    `prepare_folder` made it ready. It waits for the disk in `threads`: strangers who send here take none from the api's
    resumes.
    """

    def __init__(self, adopter: Adopter, folder: Path, threads: Executor, *, min_free_bytes: int) -> None:
        self.incoming = folder / INCOMING
        self._adopter = adopter
        self._folder = folder
        self._threads = threads
        self._min_free_bytes = min_free_bytes
        self._arriving: set[str] = set()
        self._looking = asyncio.Semaphore(LOOKS_AT_ONCE)

    def arriving(self) -> frozenset[str]:
        """The names of the files in `.incoming` that this process is writing to now."""
        return frozenset(self._arriving)

    async def offset(self, ticket: Ticket) -> int:
        """How many bytes have come. If all, it is a blob by then, durably.

        Raises `Problem` UPLOAD_CONFLICT while another request makes it one, and UNAVAILABLE when too many are sending.
        """
        received = await self._in_file(ticket)
        if received == ticket.size_bytes:
            with self._alone(ticket):
                received = await self._in_file(ticket)
                if received == ticket.size_bytes:
                    await self._adopt(ticket)
        return await self._in_blob(ticket) if received is None else received

    async def append(self, ticket: Ticket, offset: int, chunks: AsyncIterator[bytes]) -> int:
        """Take in `chunks`, the bytes from `offset` on; how many have come then. If all, it is a blob by then, durably.

        `chunks` ends where the connection does: what has come is kept. Raises `Problem` UPLOAD_CONFLICT where `offset`
        is not how many have come or others are sending, BODY_TOO_LARGE for more than the ticket is good for (of which
        nothing is kept), `StorageFull`, and UNAVAILABLE when too many are sending.
        """
        with self._alone(ticket):
            in_file = await self._in_file(ticket)
            received = await self._in_blob(ticket) if in_file is None else in_file
            if offset != received:
                raise _elsewhere(received)
            if received < ticket.size_bytes:
                await self._take_in(ticket, offset, chunks)
                received = in_file = await self._in_file(ticket) or 0
            if in_file == ticket.size_bytes:
                await self._adopt(ticket)
        return received

    async def _take_in(self, ticket: Ticket, offset: int, chunks: AsyncIterator[bytes]) -> None:
        try:
            descriptor = await self._write(self._open, ticket, offset)
            try:
                async for piece in pieces(bytearray(), _up_to(ticket.size_bytes - offset, chunks)):
                    await self._write(self._add, descriptor, piece)
            except _TooMany:
                await self._write(os.ftruncate, descriptor, offset)
                raise _too_many(ticket) from None
            finally:
                await self._write(os.close, descriptor)
        except OSError as error:
            raise refusal("resume not stored", error) from error

    def _open(self, ticket: Ticket, offset: int) -> int:
        """The file to add to. It is made for the first byte alone: what is gone meanwhile must not become a gap."""
        path, flags = self._path(ticket), os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW
        if offset:
            return open_private(path, flags)
        return open_private(path, flags | os.O_CREAT | os.O_EXCL)

    def _add(self, descriptor: int, piece: bytearray) -> None:
        """Each piece leaves enough free: nobody can say beforehand how many send how much at the same time."""
        leave_enough_free(self._folder, self._min_free_bytes)
        write_all(descriptor, piece)

    async def _adopt(self, ticket: Ticket) -> None:
        """Other bytes for this ticket may have got there by another storage: then those count."""
        try:
            await self._adopter.adopt(self._path(ticket), ticket.blob_id, attachment(ticket.filename))
        except BlobExists:
            await self._write(remove, self._path(ticket))
            raise _elsewhere(ticket.size_bytes) from None

    async def _in_file(self, ticket: Ticket) -> int | None:
        """How many bytes are in the file; None where there is none. It goes when there is a blob."""
        try:
            return (await self._write(Path(self._path(ticket)).lstat)).st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refusal("resume not read", error) from error

    async def _in_blob(self, ticket: Ticket) -> int:
        """How many bytes are kept for good: all or none."""
        async with self._looking:
            return ticket.size_bytes if await self._adopter.has(ticket.blob_id) else 0

    @contextlib.contextmanager
    def _alone(self, ticket: Ticket) -> Iterator[None]:
        name = _name(ticket)
        if name in self._arriving:
            raise _others_send()
        if len(self._arriving) >= UPLOADS_AT_ONCE:
            raise _busy()
        self._arriving.add(name)
        try:
            yield
        finally:
            self._arriving.discard(name)

    def _path(self, ticket: Ticket) -> str:
        return f"{self.incoming}/{_name(ticket)}"

    async def _write(self, work: Callable[..., Result], *args: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)


class _TooMany(Exception):  # noqa: N818
    """More bytes came than are wanted."""


async def _up_to(most_bytes: int, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        most_bytes -= len(chunk)
        if most_bytes < 0:
            raise _TooMany
        yield chunk


def _name(ticket: Ticket) -> str:
    return part_name(ticket.blob_id, int(ticket.expires_at.timestamp()))


def _elsewhere(received: int) -> Problem:
    detail = f"{received} bytes have come: go on there (Upload-Offset)."
    return Problem(ProblemType.UPLOAD_CONFLICT, detail, headers={"Upload-Offset": str(received)})


def _others_send() -> Problem:
    detail = "Another request is sending for this ticket. Ask how much has come (HEAD), and go on there."
    return Problem(ProblemType.UPLOAD_CONFLICT, detail, retry_after_seconds=RETRY_AFTER_SECONDS)


def _too_many(ticket: Ticket) -> Problem:
    detail = f"The ticket is for {ticket.size_bytes} bytes, and more came."
    return Problem(ProblemType.BODY_TOO_LARGE, detail)


def _busy() -> Problem:
    detail = "Many people are sending their resumes right now. Please try again in a moment."
    return Problem(ProblemType.UNAVAILABLE, detail, retry_after_seconds=RETRY_AFTER_SECONDS)
