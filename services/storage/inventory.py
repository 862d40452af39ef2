"""The resumes as an audit looks at them: many blobs at a time, whether or not the storage is running.

Nothing here needs the room, and nothing but `remove` changes anything.
"""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Protocol, TypeVar

from services.storage.blobs import BlobFacts, BlobMissing
from services.storage.buckets import TROUBLES, bucket_of, is_bucket_missing, trouble_of
from services.storage.folder import newest_lead, remove, sync_folder
from services.storage.local import look
from services.storage.objects import ObjectBlobs
from services.storage.settings import StorageSettings
from shared.ids import is_id

NAMES_AT_ONCE = 1000


ASKED_AT_ONCE = 32
"""Of a bucket, where each look is a call."""

Result = TypeVar("Result")


class Inventory(Protocol):
    """The blobs of a store. Every verb raises `OSError` or `StorageBroken` when it cannot be read."""

    async def facts(self, blob_ids: Iterable[str]) -> dict[str, BlobFacts]:
        """What is known of those of `blob_ids` that are stored. What cannot be an id is not stored."""

    async def digests(self, blob_ids: Iterable[str]) -> dict[str, str]:
        """SHA-256, in hex, of the bytes of each blob that is stored: all of them are read."""

    def listing(self) -> AsyncIterator[Sequence[str]]:
        """The ids of all blobs in batches, in no order."""

    async def newest_lead(self) -> str | None:
        """The id that the api noted last, of a lead that its database had then."""

    async def remove(self, blob_ids: Sequence[str]) -> None:
        """Remove these durably."""


def inventory_of(settings: StorageSettings) -> Inventory:
    """That of the store which `LEADS_BLOB_URL` names. Raises `SettingsError`, or `OSError` if there is no folder."""
    if settings.bucket_url:
        return BucketInventory(ObjectBlobs(bucket_of(settings)))
    if not settings.blob_folder.is_dir():
        raise FileNotFoundError(f"there is no folder {settings.blob_folder}")
    return FolderInventory(settings.blob_folder)


class FolderInventory:
    """An `Inventory` of a folder. A trip to a thread for each blob costs more than the look itself."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def facts(self, blob_ids: Iterable[str]) -> dict[str, BlobFacts]:
        return await asyncio.to_thread(_facts, self._folder, blob_ids)

    async def digests(self, blob_ids: Iterable[str]) -> dict[str, str]:
        return await asyncio.to_thread(_digests, self._folder, blob_ids)

    async def listing(self) -> AsyncIterator[Sequence[str]]:
        """In no order: a sorted listing would hold all names or read them again."""
        with await asyncio.to_thread(os.scandir, self._folder) as entries:
            while names := await asyncio.to_thread(_next_names, entries):
                yield [name for name in names if is_id(name)]

    async def newest_lead(self) -> str | None:
        return await asyncio.to_thread(newest_lead, self._folder)

    async def remove(self, blob_ids: Sequence[str]) -> None:
        await asyncio.to_thread(_remove, self._folder, blob_ids)


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


def _facts(folder: Path, blob_ids: Iterable[str]) -> dict[str, BlobFacts]:
    found = (look(folder, blob_id) for blob_id in blob_ids if is_id(blob_id))
    return {facts.id: facts for facts in found if facts is not None}


def _digests(folder: Path, blob_ids: Iterable[str]) -> dict[str, str]:
    digests = {}
    for blob_id in _facts(folder, blob_ids):
        with contextlib.suppress(FileNotFoundError), (folder / blob_id).open("rb") as file:
            digests[blob_id] = file_digest(file, "sha256").hexdigest()
    return digests


def _next_names(entries: "Iterable[os.DirEntry[str]]") -> list[str]:
    return [entry.name for entry in itertools.islice(entries, NAMES_AT_ONCE)]


def _remove(folder: Path, blob_ids: Sequence[str]) -> None:
    for blob_id in blob_ids:
        remove(f"{folder}/{blob_id}")
    sync_folder(folder)
