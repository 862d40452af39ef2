"""Bodies that come straight from their senders, in as many requests as it takes.

What has come lies in `.incoming/<id>.<expiry>`, and how long that file is says where to go on: nothing else has to be
kept in step with it. It survives a broken connection and the end of this process, but not the machine's: what of an
unfinished file reached the disk then, nobody knows, and its sender begins again. The whole one becomes a blob as every
other does (`BlobStore.adopt`): named where the blobs are files, put where they are objects.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from services.storage.blobs import RETRY_AFTER_SECONDS, BlobStore
from services.storage.bodies import pieces
from services.storage.folder import INCOMING, leave_enough_free, open_private, part_name, refusal, remove, write_all
from shared.disposition import attachment
from shared.metrics import BLOB_BYTES_WRITTEN
from shared.problems import Problem, ProblemType
from shared.tickets import Ticket

UPLOADS_AT_ONCE = 256
"""Most bodies that arrive at a time. Each holds a piece of 128 KiB and what its socket holds: some 50 MiB for all."""

WRITER_THREADS = 4
"""Their own: strangers who send here take none from the api's resumes."""

Result = TypeVar("Result")


class Uploads:
    """Unfinished bodies in `folder`, each for a ticket. Every verb raises `StorageBroken`.

    `prepare_folder` made it ready. Where `blobs` are files, it is the folder that they are in.
    """

    def __init__(self, blobs: BlobStore, folder: Path, *, min_free_bytes: int) -> None:
        self.incoming = folder / INCOMING
        self._blobs = blobs
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._writers = ThreadPoolExecutor(WRITER_THREADS, thread_name_prefix="upload-writer")
        self._arriving: set[str] = set()

    def arriving(self) -> frozenset[str]:
        """The names of the files in `.incoming` that this process is writing to now."""
        return frozenset(self._arriving)

    def close(self) -> None:
        """Wait for what is being written."""
        self._writers.shutdown()

    async def offset(self, ticket: Ticket) -> int:
        """How many bytes have come. If all, it is a blob by then, durably."""
        received = await self._received(ticket)
        if received == ticket.size_bytes and _name(ticket) not in self._arriving:
            with self._alone(ticket):
                await self._adopt(ticket)
        return received

    async def append(self, ticket: Ticket, offset: int, chunks: AsyncIterator[bytes]) -> int:
        """Take in `chunks`, the bytes from `offset` on; how many have come then. If all, it is a blob by then, durably.

        `chunks` ends where the connection does: what has come is kept. Raises `Problem` UPLOAD_CONFLICT where `offset`
        is not how many have come or others are sending, BODY_TOO_LARGE for more than the ticket is good for (of which
        nothing is kept), `StorageFull`, and UNAVAILABLE when too many are sending.
        """
        with self._alone(ticket):
            received = await self._received(ticket)
            if offset != received:
                raise _elsewhere(received)
            if received < ticket.size_bytes:
                await self._take_in(ticket, offset, chunks)
            received = await self._received(ticket)
            if received == ticket.size_bytes:
                await self._adopt(ticket)
                BLOB_BYTES_WRITTEN.inc(received if offset < received else 0)
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
        remove(path)  # what the machine may have lost
        return open_private(path, flags | os.O_CREAT | os.O_EXCL)

    def _add(self, descriptor: int, piece: bytearray) -> None:
        """Each piece leaves enough free: nobody can say beforehand how many send how much at the same time."""
        leave_enough_free(self._folder, self._min_free_bytes)
        write_all(descriptor, piece)

    async def _adopt(self, ticket: Ticket) -> None:
        await self._blobs.adopt(self._path(ticket), ticket.blob_id, self._writers, attachment(ticket.filename))

    async def _received(self, ticket: Ticket) -> int:
        """Asked of the file first, which goes when there is a blob."""
        try:
            size_bytes = await self._write(self._size, ticket)
        except OSError as error:
            raise refusal("resume not read", error) from error
        if size_bytes is not None:
            return size_bytes
        return ticket.size_bytes if await self._blobs.has(ticket.blob_id, self._writers) else 0

    def _size(self, ticket: Ticket) -> int | None:
        """What is in the file; None where there is none that can be gone on with."""
        try:
            status = Path(self._path(ticket)).lstat()
        except FileNotFoundError:
            return None
        return status.st_size if status.st_mtime >= _machine_started_at() else None

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
        return await asyncio.get_running_loop().run_in_executor(self._writers, work, *args)


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


def _machine_started_at() -> float:
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


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
