"""Blobs as objects of a bucket. What was answered as kept is what the bucket answered as kept.

A body of up to one part is held and put in one call, which the bucket refuses when the name is taken
(`If-None-Match: *`). A longer one goes part by part to a name of its own under `.incoming/`, where it appears when its
last part is there, and is given its name by a copy within the bucket, refused likewise: parts know no condition.

A PUT that comes again with the same bytes gets its receipt again, as in a folder. That makes it safe to repeat one
whose answer was lost.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import obstore
import structlog
from obstore.exceptions import AlreadyExistsError, GenericError
from obstore.store import MemoryStore

from services.storage.blobs import (
    BlobCutShort,
    BlobExists,
    BlobFacts,
    BlobMissing,
    BlobPage,
    Receipt,
    StorageBroken,
    StoreUnfit,
)
from services.storage.bodies import PIECE_BYTES, CountedBody
from services.storage.buckets import ANSWER_SECONDS, TROUBLES, Bucket, is_bucket_missing, trouble_of
from services.storage.folder import INCOMING, NEWEST_LEAD
from shared.blob_group import ShortBlob
from shared.disposition import ATTACHMENT
from shared.ids import is_id, new_id
from shared.metrics import BLOB_BYTES_WRITTEN
from shared.problems import Problem

if TYPE_CHECKING:
    from obstore import Attributes, ObjectMeta

PART_BYTES = 5 * 1024 * 1024
"""What is held of one body: no part but the last may be smaller (Amazon S3, "Multipart upload limits")."""

PROBE = ".probe"
"""As little an id as `INCOMING` and `NEWEST_LEAD`, which are for the same here as in a folder."""

PROBE_EVERY_SECONDS = 10.0
"""A bucket that took the last probe is not asked again before: each costs a little."""

LISTED_AT_ONCE = 1000

REST_SECONDS = 0.1

GROUP_SECONDS = 3.5
"""Then a group is answered, before the api gives it up: an object that hangs takes none of the others along."""

CONTENT_TYPE = "application/octet-stream"

LINK_SECONDS = 60
"""How long a link works: enough to follow it, too short to be passed on."""

log = structlog.get_logger()


class ObjectBlobs:
    """A `BlobStore` in a bucket, under the prefix that its URL names."""

    def __init__(self, bucket: Bucket | MemoryStore) -> None:
        self._bucket = bucket
        self._arriving: set[str] = set()
        self._fit_until = 0.0

    async def put(self, blob_id: str, chunks: AsyncIterator[bytes], disposition: str = ATTACHMENT) -> Receipt:
        return await self._put(blob_id, self._receive(blob_id, chunks, _attributes(disposition)))

    async def put_group(self, blobs: Sequence[ShortBlob]) -> list[Receipt | Problem]:
        puts = [asyncio.create_task(self._put_short(blob)) for blob in blobs]
        try:
            _, late = await asyncio.wait(puts, timeout=GROUP_SECONDS)
        finally:
            for put in puts:
                put.cancel()
        if late:
            log.error("resumes not stored", reason="the bucket does not answer", late=len(late))
        await asyncio.wait(puts)
        return [_outcome(put) for put in puts]

    async def receipt(self, blob_id: str) -> Receipt:
        facts = await self.facts(blob_id)
        with self._telling("resume not read"), _none_is_missing():
            return Receipt(blob_id, facts.size_bytes, await self.digest(blob_id))

    async def facts(self, blob_id: str) -> BlobFacts:
        with self._telling("resume not read"), _none_is_missing():
            async with asyncio.timeout(ANSWER_SECONDS):
                return _facts(await obstore.head_async(self._bucket, blob_id))

    async def look_into(self, blob_id: str) -> tuple[BlobFacts, bytes | None]:
        return await self.facts(blob_id), None

    async def read(self, blob_id: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        with self._telling("resume not read"), _none_is_missing():
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await obstore.get_async(self._bucket, blob_id, options={"range": (start, stop)})
            async for piece in found.stream(min_chunk_size=PIECE_BYTES):
                start += len(piece)
                yield bytes(piece)
        if start < stop:
            raise BlobCutShort(f"{blob_id} ends at byte {start}, {stop - start} too early")

    async def link(self, blob_id: str) -> str | None:
        """None, too, for what would not come as an attachment: a copy within S3 leaves that behind (a long body)."""
        with self._telling("resume not read"), _none_is_missing():
            async with asyncio.timeout(ANSWER_SECONDS):
                found = await obstore.get_async(self._bucket, blob_id, options={"head": True})
        if isinstance(self._bucket, MemoryStore):
            return None
        said = found.attributes
        if said.get("Content-Type") != CONTENT_TYPE or not said.get("Content-Disposition", "").startswith(ATTACHMENT):
            return None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await obstore.sign_async(self._bucket, "GET", blob_id, timedelta(seconds=LINK_SECONDS))
        except TROUBLES as error:
            log.warning("no link to a resume made", reason=str(trouble_of(error)))
            return None

    async def delete(self, blob_id: str) -> None:
        with self._telling("resume not deleted"):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._remove(blob_id)

    async def page(self, *, stored_before: datetime, after: str, limit: int) -> BlobPage:
        found: list[BlobFacts] = []
        with self._telling("resumes not listed"):
            async for batch in self.listing(after=after, batch=limit + 1):
                found += batch
                if len(found) > limit:
                    break
        blobs = tuple(blob for blob in found[:limit] if blob.stored_at < stored_before)
        return BlobPage(blobs, found[limit - 1].id if len(found) > limit else None)

    async def note_newest_lead(self, lead_id: str) -> None:
        with self._telling("newest lead not noted"):
            async with asyncio.timeout(ANSWER_SECONDS):
                await obstore.put_async(self._bucket, NEWEST_LEAD, lead_id.encode(), use_multipart=False)

    async def newest_lead(self) -> str | None:
        with self._telling("newest lead not read"):
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    found = await obstore.get_async(self._bucket, NEWEST_LEAD)
                    return bytes(await found.bytes_async()).decode() or None
            except FileNotFoundError as error:
                if is_bucket_missing(error):
                    raise
                return None

    async def check(self) -> None:
        """Puts a small object, and deletes it: what an upload needs, and what its sweep does."""
        if time.monotonic() < self._fit_until:
            return
        try:
            await obstore.put_async(self._bucket, PROBE, b"writable", use_multipart=False)
            await self._remove(PROBE)
        except TROUBLES as error:
            raise StoreUnfit(trouble_of(error).told) from error
        self._fit_until = time.monotonic() + PROBE_EVERY_SECONDS

    async def listing(self, *, after: str = "", batch: int = LISTED_AT_ONCE) -> AsyncIterator[list[BlobFacts]]:
        """All blobs whose ids follow `after`, in the order of ids. Raises what the bucket does, one of `TROUBLES`."""
        # Ids follow "0" or are it; the names that begin with a dot come before. Not every house heeds the offset.
        async for found in obstore.list(self._bucket, offset=after or "0", chunk_size=batch):
            yield [_facts(one) for one in found if is_id(one["path"]) and one["path"] > after]

    async def sweep(self, grace_seconds: float) -> int:
        """Remove the bodies that got no name within the grace; how many. By this machine's clock and the bucket's.

        Those that are `arriving` here are never touched. A body that is there waits for its name for a moment only, so
        the clocks of others may be some way apart. Raises one of `TROUBLES`.
        """
        before = datetime.now(UTC) - timedelta(seconds=grace_seconds)
        removed = 0
        async for found in obstore.list(self._bucket, INCOMING):
            for one in found:
                blob_id = one["path"].removeprefix(f"{INCOMING}/").partition(".")[0]
                if one["last_modified"] <= before and blob_id not in self._arriving:
                    await self._remove(one["path"])
                    removed += 1
        return removed

    async def digest(self, blob_id: str) -> str:
        """SHA-256, in hex, of all bytes of a blob. Raises `FileNotFoundError`, or another of `TROUBLES`."""
        digest = sha256()
        found = await obstore.get_async(self._bucket, blob_id)
        async for piece in found.stream(min_chunk_size=PIECE_BYTES):
            await asyncio.to_thread(digest.update, bytes(piece))
        return digest.hexdigest()

    async def _put_short(self, blob: ShortBlob) -> Receipt:
        return await self._put(blob.id, self._receive_short(blob.id, bytes(blob.body), _attributes(blob.disposition)))

    async def _put(self, blob_id: str, receiving: Coroutine[Any, Any, Receipt]) -> Receipt:
        with contextlib.closing(receiving):
            if blob_id in self._arriving:
                raise BlobExists
            self._arriving.add(blob_id)
            try:
                receipt = await receiving
            finally:
                self._arriving.discard(blob_id)
        BLOB_BYTES_WRITTEN.inc(receipt.size_bytes)
        return receipt

    async def _receive(self, blob_id: str, chunks: AsyncIterator[bytes], attributes: "Attributes") -> Receipt:
        held = bytearray()
        async for chunk in chunks:
            held += chunk
            if len(held) > PART_BYTES:
                return await self._receive_long(blob_id, held, chunks, attributes)
        body = bytes(held)
        held.clear()  # or it would be held twice for as long as the bucket takes
        return await self._receive_short(blob_id, body, attributes)

    async def _receive_short(self, blob_id: str, body: bytes, attributes: "Attributes") -> Receipt:
        digest = await asyncio.to_thread(sha256, body)
        receipt = Receipt(blob_id, len(body), digest.hexdigest())
        with self._telling("resume not stored"):
            try:
                await self._create(blob_id, body, attributes)
            except AlreadyExistsError:
                await self._refuse_other_bytes(receipt)
        return receipt

    async def _create(self, blob_id: str, body: bytes, attributes: "Attributes") -> None:
        """Put under a condition, again if the answer was lost: the library does not, since the second may be refused.

        Here that is no harm, as what is there is looked at then.
        """
        deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
        said: GenericError | None = None
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    await obstore.put_async(
                        self._bucket, blob_id, body, mode="create", use_multipart=False, attributes=attributes
                    )
            except TimeoutError as silence:
                raise said or silence from None  # what the bucket said is worth more than that it says no more
            except GenericError as error:
                said = error
                await asyncio.sleep(REST_SECONDS)
            else:
                return

    async def _receive_long(
        self, blob_id: str, held: bytearray, chunks: AsyncIterator[bytes], attributes: "Attributes"
    ) -> Receipt:
        counted = CountedBody(held, chunks)
        incoming = f"{INCOMING}/{blob_id}.{new_id()}"
        with self._telling("resume not stored"):
            await obstore.put_async(
                self._bucket,
                incoming,
                counted.pieces(),
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=1,
                attributes=attributes,
            )
            receipt = Receipt(blob_id, counted.size_bytes, counted.sha256)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    await obstore.copy_async(self._bucket, incoming, blob_id, overwrite=False)
            except AlreadyExistsError:
                await self._refuse_other_bytes(receipt)
            finally:
                await self._leave_nothing(incoming)
        return receipt

    async def _refuse_other_bytes(self, receipt: Receipt) -> None:
        async with asyncio.timeout(ANSWER_SECONDS):
            if await self.digest(receipt.id) != receipt.sha256:
                raise BlobExists

    async def _leave_nothing(self, incoming: str) -> None:
        """What cannot be removed now the sweep will: it is no reason to say no."""
        with contextlib.suppress(*TROUBLES):
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._remove(incoming)

    async def _remove(self, name: str) -> None:
        try:
            await obstore.delete_async(self._bucket, name)
        except FileNotFoundError as error:
            if is_bucket_missing(error):
                raise

    @contextlib.contextmanager
    def _telling(self, event: str) -> Iterator[None]:
        """What happened is told to ops; the caller is told to try again. The next `/readyz` looks for itself."""
        try:
            yield
        except TROUBLES as error:
            self._fit_until = 0.0
            trouble = trouble_of(error)
            log.error(event, reason=str(trouble), **({"advice": trouble.advice} if trouble.advice else {}))
            raise StorageBroken from trouble


def _outcome(put: asyncio.Task[Receipt]) -> Receipt | Problem:
    if put.cancelled():
        return StorageBroken()
    error = put.exception()
    if error is None:
        return put.result()
    if isinstance(error, Problem):
        return error
    raise error


@contextlib.contextmanager
def _none_is_missing() -> Iterator[None]:
    """An object that is not there is a blob that is not; a bucket that is not there is another matter."""
    try:
        yield
    except FileNotFoundError as error:
        if is_bucket_missing(error):
            raise
        raise BlobMissing from None


def _attributes(disposition: str) -> "Attributes":
    """What whoever gets at the object without us is told: to save it, and not to show it as what it says it is."""
    return {"Content-Type": CONTENT_TYPE, "Content-Disposition": disposition}


def _facts(found: "ObjectMeta") -> BlobFacts:
    return BlobFacts(found["path"], found["size"], found["last_modified"])
