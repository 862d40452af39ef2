"""How a body that lies whole in a file of this machine becomes a blob, wherever blobs are kept."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Protocol, TypeVar

import aiofiles
import structlog

from services.storage.blobs import BlobExists, BlobMissing, BlobStore, StorageBroken
from services.storage.bodies import PIECE_BYTES
from services.storage.folder import refusal, remove, sha256_of, sync_or_remove
from services.storage.local import LocalBlobs

AT_ONCE = 4
"""Bodies on their way into a bucket. Each holds a part of 5 MiB, or two."""

PATIENCE_SECONDS = 3.5
"""How long one waits to be among them: less than a proxy, or a person, waits for an answer."""

Result = TypeVar("Result")

log = structlog.get_logger()


class Adopter(Protocol):
    """Takes whole bodies over. Every verb raises `StorageBroken`."""

    async def adopt(self, file: str, blob_id: str, disposition: str) -> None:
        """Keep the whole body that lies in `file` durably; then `file` is gone. To be called again after a crash.

        What cannot be made durable on this machine's disk is removed. Raises `BlobExists` for a blob of other bytes.
        """

    async def has(self, blob_id: str) -> bool:
        """Whether there is a blob of this id."""


class IntoFolder:
    """Gives files of the folder's own `.incoming` their names. It waits for the disk in `threads`."""

    def __init__(self, blobs: LocalBlobs, threads: Executor) -> None:
        self._blobs = blobs
        self._threads = threads

    async def adopt(self, file: str, blob_id: str, disposition: str) -> None:
        del disposition  # nobody but us hands out what is in a folder
        await self._blobs.adopt(file, blob_id, self._threads)

    async def has(self, blob_id: str) -> bool:
        return await self._blobs.has(blob_id, self._threads)


class IntoBucket:
    """Puts files into a bucket, a few at a time. It waits for the disk in `threads`."""

    def __init__(self, blobs: BlobStore, threads: Executor) -> None:
        self._blobs = blobs
        self._threads = threads
        self._places = asyncio.Semaphore(AT_ONCE)

    async def adopt(self, file: str, blob_id: str, disposition: str) -> None:
        try:
            async with self._place():
                await self._in_thread(sync_or_remove, file)
                await self._put(file, blob_id, disposition)
                await self._in_thread(remove, file)
        except OSError as error:
            raise refusal("resume not stored", error) from error

    async def has(self, blob_id: str) -> bool:
        try:
            await self._blobs.facts(blob_id)
        except BlobMissing:
            return False
        return True

    async def _put(self, file: str, blob_id: str, disposition: str) -> None:
        """Looks first: one that got there, and whose answer was lost, need not go again."""
        try:
            kept = await self._blobs.receipt(blob_id)
        except BlobMissing:
            async with contextlib.aclosing(self._pieces(file)) as pieces:
                await self._blobs.put(blob_id, pieces, disposition)
        else:
            if kept.sha256 != await self._in_thread(sha256_of, file):
                raise BlobExists

    async def _pieces(self, file: str) -> AsyncGenerator[bytes, None]:
        try:
            async with aiofiles.open(file, "rb", executor=self._threads) as opened:
                while piece := await opened.read(PIECE_BYTES):
                    yield piece
        except OSError as error:
            raise refusal("resume not read", error) from error

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            log.error("resume not stored", reason=f"{AT_ONCE} others are on their way into the bucket")
            raise StorageBroken from None
        try:
            yield
        finally:
            self._places.release()

    async def _in_thread(self, work: Callable[..., Result], *args: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
