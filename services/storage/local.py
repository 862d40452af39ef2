"""Blobs as files in one folder. What was answered as kept survives a loss of power; no half-written one has a name.

A body goes to `.incoming/<id>`, is synced, gets its name in the folder, and the folder is synced. The name is given by
`link`, which the kernel refuses when the name is taken: a look before a `rename` would leave a moment in between, and
creating the final name with `O_EXCL` would show it before the bytes are safe.

A PUT that comes again with the same bytes gets its receipt again: a client whose answer was lost repeats it by itself,
since PUT is idempotent (RFC 9110, section 9.2.2). Other bytes under a name that is taken are refused.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from datetime import datetime
from functools import partial
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TypeVar

import aiofiles
import aiofiles.os
from aiofiles.threadpool.binary import AsyncBufferedIOBase

from services.storage.blobs import BlobExists, BlobFacts, BlobMissing, BlobPage, Receipt
from services.storage.bodies import PIECE_BYTES, pieces
from services.storage.files import cut_short, look, look_into, page_of
from services.storage.folder import (
    INCOMING,
    FolderSync,
    check_folder,
    leave_enough_free,
    new_file,
    newest_lead,
    note_newest_lead,
    open_private,
    refusal,
    remove,
    sha256_of,
    sync_or_remove,
    write_all,
)
from shared.blob_group import ShortBlob
from shared.disposition import ATTACHMENT
from shared.metrics import BLOB_BYTES_WRITTEN
from shared.problems import Problem

WRITER_THREADS = 8
"""They wait for the disk, not for a core."""

READ_BYTES = 512 * 1024
"""What a long body is read in: each step on its way out costs the same for little as for much."""

KEPT_BY_ONE = 4
"""Of a group: so many are kept by a thread one after the other."""

Result = TypeVar("Result")


class LocalBlobs:
    """A `BlobStore` in `folder`, which `prepare_folder` made ready."""

    def __init__(self, folder: Path, *, min_free_bytes: int) -> None:
        self.incoming = folder / INCOMING
        self._folder = folder
        self._min_free_bytes = min_free_bytes
        self._writers = ThreadPoolExecutor(WRITER_THREADS, thread_name_prefix="blob-writer")
        self._sync = FolderSync(folder)
        self._arriving: set[str] = set()

    def arriving(self) -> frozenset[str]:
        """The ids of the bodies that this process is receiving now."""
        return frozenset(self._arriving)

    def close(self) -> None:
        """Wait for what is being written."""
        self._writers.shutdown()
        self._sync.close()

    async def put(self, blob_id: str, chunks: AsyncIterator[bytes], disposition: str = ATTACHMENT) -> Receipt:
        del disposition  # nobody but us hands out what is in a folder
        if blob_id in self._arriving:
            raise BlobExists
        self._arriving.add(blob_id)
        try:
            leave_enough_free(self._folder, self._min_free_bytes)
            receipt = await self._receive(blob_id, chunks)
            await self._sync.wait()
        except FileExistsError:
            raise BlobExists from None
        except OSError as error:
            raise refusal("resume not stored", error) from error
        finally:
            self._arriving.discard(blob_id)
        BLOB_BYTES_WRITTEN.inc(receipt.size_bytes)
        return receipt

    async def put_group(self, blobs: Sequence[ShortBlob]) -> list[Receipt | Problem]:
        """Several threads share them: a slow disk is waited for side by side, and a trip to a thread is not free."""
        mine = [blob for blob in blobs if blob.id not in self._arriving]
        self._arriving.update(blob.id for blob in mine)
        try:
            leave_enough_free(self._folder, self._min_free_bytes)
            shares = [mine[begin : begin + KEPT_BY_ONE] for begin in range(0, len(mine), KEPT_BY_ONE)]
            kept = await asyncio.gather(*(self._write(self._keep, share) for share in shares))
            await self._sync.wait()
        except OSError as error:
            raise refusal("resumes not stored", error) from error
        finally:
            self._arriving.difference_update(blob.id for blob in mine)
        outcomes = {blob.id: _outcome(blob, one) for blob, one in zip(mine, chain.from_iterable(kept), strict=True)}
        BLOB_BYTES_WRITTEN.inc(sum(one.size_bytes for one in outcomes.values() if isinstance(one, Receipt)))
        return [outcomes.get(blob.id) or BlobExists() for blob in blobs]

    async def adopt(self, file: str, blob_id: str, threads: Executor) -> None:
        """Keep the whole body that lies in a file of `incoming`, durably. To be called again after a crash.

        It waits for the disk in one of `threads`. What cannot be made durable is removed.
        """
        write = partial(asyncio.get_running_loop().run_in_executor, threads)
        try:
            size_bytes = await write(_name_whole, file, self._path(blob_id))
            if size_bytes is not None:
                await self._sync.wait()
                await write(remove, file)
                BLOB_BYTES_WRITTEN.inc(size_bytes)
        except OSError as error:
            raise refusal("resume not stored", error) from error

    async def has(self, blob_id: str, threads: Executor) -> bool:
        """Whether there is a blob of this id. It waits for the disk in one of `threads`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, Path(self._path(blob_id)).exists)
        except OSError as error:
            raise refusal("resume not read", error) from error

    async def receipt(self, blob_id: str) -> Receipt:
        facts = await self.facts(blob_id)
        try:
            # Whoever gave it its name may have died before it synced the folder.
            await self._sync.wait()
            return Receipt(blob_id, facts.size_bytes, await self._write(sha256_of, self._path(blob_id)))
        except OSError as error:
            raise refusal("resume not read", error) from error

    async def facts(self, blob_id: str) -> BlobFacts:
        try:
            found = await asyncio.to_thread(look, self._folder, blob_id)
        except OSError as error:
            raise refusal("resume not read", error) from error
        if found is None:
            raise BlobMissing
        return found

    async def look_into(self, blob_id: str) -> tuple[BlobFacts, bytes | None]:
        """In one trip to a thread: each of these steps costs less than a trip."""
        try:
            return await asyncio.get_running_loop().run_in_executor(None, look_into, self._folder, blob_id)
        except OSError as error:
            raise refusal("resume not read", error) from error

    async def read(self, blob_id: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        async with aiofiles.open(self._path(blob_id), "rb", buffering=0) as file:
            if start:
                await file.seek(start)
            while start < stop:
                piece = await file.read(min(READ_BYTES, stop - start))
                if not piece:
                    raise cut_short(blob_id, start, stop)
                start += len(piece)
                yield piece

    async def link(self, blob_id: str) -> str | None:
        await self.facts(blob_id)
        return None

    async def delete(self, blob_id: str) -> None:
        try:
            with contextlib.suppress(FileNotFoundError):
                await aiofiles.os.unlink(self._path(blob_id))
            # Also when it was not there: whoever removed it may not have synced the folder yet.
            await self._sync.wait()
        except OSError as error:
            raise refusal("resume not deleted", error) from error

    async def page(self, *, stored_before: datetime, after: str, limit: int) -> BlobPage:
        try:
            return await asyncio.to_thread(page_of, self._folder, stored_before, after=after, limit=limit)
        except OSError as error:
            raise refusal("resumes not listed", error) from error

    async def note_newest_lead(self, lead_id: str) -> None:
        try:
            await asyncio.to_thread(note_newest_lead, self._folder, lead_id)
        except OSError as error:
            raise refusal("newest lead not noted", error) from error

    async def newest_lead(self) -> str | None:
        try:
            return await asyncio.to_thread(newest_lead, self._folder)
        except OSError as error:
            raise refusal("newest lead not read", error) from error

    async def check(self) -> None:
        await asyncio.to_thread(check_folder, self._folder, self._min_free_bytes)

    def _path(self, blob_id: str) -> str:
        return f"{self._folder}/{blob_id}"

    async def _write(self, work: Callable[..., Result], *args: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._writers, work, *args)

    async def _receive(self, blob_id: str, chunks: AsyncIterator[bytes]) -> Receipt:
        held = bytearray()
        async for chunk in chunks:
            held += chunk
            if len(held) > PIECE_BYTES:
                return await self._receive_long(blob_id, held, chunks)
        kept = await self._write(self._keep_one, ShortBlob(blob_id, held, ATTACHMENT, None))
        if isinstance(kept, OSError):
            raise kept
        return kept

    def _keep(self, blobs: Sequence[ShortBlob]) -> list[Receipt | OSError]:
        """Each of these, in one trip to a thread. What becomes of one is no other's business."""
        return [self._keep_one(blob) for blob in blobs]

    def _keep_one(self, blob: ShortBlob) -> Receipt | OSError:
        temp = f"{self.incoming}/{blob.id}"
        try:
            with new_file(temp) as descriptor:
                write_all(descriptor, blob.body)
                os.fsync(descriptor)
                receipt = Receipt(blob.id, len(blob.body), sha256(blob.body).hexdigest())
                self._name(temp, receipt)
        except OSError as error:
            return error
        return receipt

    async def _receive_long(self, blob_id: str, held: bytearray, chunks: AsyncIterator[bytes]) -> Receipt:
        digest = sha256()
        size_bytes = 0
        async with self._temp(blob_id) as file:
            async for piece in pieces(held, chunks):
                await file.write(piece)
                await self._write(digest.update, piece)
                size_bytes += len(piece)
            await file.flush()
            await self._write(os.fsync, file.fileno())
            receipt = Receipt(blob_id, size_bytes, digest.hexdigest())
            await self._write(self._name, file.name, receipt)
        return receipt

    def _name(self, temp: str, receipt: Receipt) -> None:
        """Let what is safe in `temp` be found. Raises `FileExistsError` when other bytes have that name."""
        try:
            os.link(temp, self._path(receipt.id))
        except FileExistsError:
            if sha256_of(self._path(receipt.id)) != receipt.sha256:
                raise

    @contextlib.asynccontextmanager
    async def _temp(self, blob_id: str) -> AsyncIterator[AsyncBufferedIOBase]:
        path = f"{self.incoming}/{blob_id}"
        file = await aiofiles.open(path, "xb", opener=open_private, executor=self._writers)
        try:
            yield file
        finally:
            try:
                await file.close()
            finally:
                await self._write(remove, path)


def _outcome(blob: ShortBlob, kept: Receipt | OSError) -> Receipt | Problem:
    if isinstance(kept, Receipt):
        return kept
    if isinstance(kept, FileExistsError):
        return BlobExists()
    return refusal("resume not stored", kept, blob=blob.id, correlation_id=blob.correlation_id)


def _name_whole(temp: str, path: str) -> int | None:
    """Make `temp` durable and let it be found as `path`, where it is not yet; how long it is. Raises `OSError`.

    None where `temp` is gone, which goes last: nothing is left to do.
    """
    if Path(path).exists():
        return Path(temp).stat().st_size if Path(temp).exists() else None
    sync_or_remove(temp)
    os.link(temp, path)
    return Path(path).stat().st_size
