"""A bucket of resumes as an audit looks at it: each look is a call, so many are under way at a time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from services.storage.blobs import BlobFacts, BlobMissing
from services.storage.buckets import TROUBLES, is_bucket_missing, trouble_of
from services.storage.objects import ObjectBlobs
from shared.ids import is_id

ASKED_AT_ONCE = 32

Result = TypeVar("Result")


class BucketInventory:
    """An `Inventory` of a bucket. Raises `StorageBroken`, or `OSError` with what the bucket said."""

    def __init__(self, blobs: ObjectBlobs) -> None:
        self._blobs = blobs
        self._places = asyncio.Semaphore(ASKED_AT_ONCE)

    async def facts(self, blob_ids: Iterable[str]) -> dict[str, BlobFacts]:
        return await self._of_each(blob_ids, self._blobs.facts)

    async def digests(self, blob_ids: Iterable[str]) -> dict[str, str]:
        return await self._of_each(blob_ids, self._blobs.digest)

    async def listing(self) -> AsyncIterator[Sequence[str]]:
        with _told():
            async for batch in self._blobs.listing():
                yield [blob.id for blob in batch]

    async def newest_lead(self) -> str | None:
        return await self._blobs.newest_lead()

    async def remove(self, blob_ids: Sequence[str]) -> None:
        await self._of_each(blob_ids, self._blobs.delete)

    async def _of_each(self, blob_ids: Iterable[str], ask: Callable[[str], Awaitable[Result]]) -> dict[str, Result]:
        """The answers of those that are there."""

        async def asked(blob_id: str) -> tuple[str, Result] | None:
            async with self._places:
                try:
                    with _told():
                        return blob_id, await ask(blob_id)
                except (BlobMissing, FileNotFoundError):
                    return None

        answers = await asyncio.gather(*(asked(blob_id) for blob_id in blob_ids if is_id(blob_id)))
        return dict(answer for answer in answers if answer is not None)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What the bucket said, in one line. Raises `OSError`."""
    try:
        yield
    except FileNotFoundError as error:
        if is_bucket_missing(error):
            raise OSError(trouble_of(error).told) from error
        raise
    except TROUBLES as error:
        raise OSError(trouble_of(error).told) from error
