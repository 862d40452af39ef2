"""The resumes as an audit looks at them: many blobs at a time, whether or not the storage is running.

Nothing here needs the room, and nothing but `remove` changes anything.
"""

import asyncio
import contextlib
import itertools
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from hashlib import file_digest
from pathlib import Path
from typing import Protocol

from services.storage.blobs import BlobFacts
from services.storage.files import look
from services.storage.folder import newest_lead, remove, sync_folder
from services.storage.settings import StorageSettings
from shared.ids import is_id

NAMES_AT_ONCE = 1000


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
        # Here, since who has a folder need not wait for the library of buckets.
        from services.storage.bucket_inventory import BucketInventory
        from services.storage.buckets import bucket_of
        from services.storage.objects import ObjectBlobs

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
