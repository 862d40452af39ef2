"""The store that `LEADS_BLOB_URL` names, made ready, with what goes on beside it for as long as the room is open."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from services.storage.blobs import BlobStore
from services.storage.folder import prepare_folder
from services.storage.local import LocalBlobs
from services.storage.settings import StorageSettings
from services.storage.sweep import keep_swept, sweep
from services.storage.uploads import Uploads
from shared.background import measuring, running
from shared.disk import measure_folder

SWEEP = "sweep of unfinished resumes"


@dataclass(frozen=True)
class Store:
    """The blobs, what `/readyz` calls the place they are in, and what tends it."""

    blobs: BlobStore
    place: str
    tended: Callable[[], AbstractAsyncContextManager[None]]
    uploads: Uploads | None = None
    """Where bodies come in several requests; None where they cannot."""


def store_of(settings: StorageSettings) -> Store:
    """Raises `SettingsError` when it cannot be used as it is set."""
    return _bucket(settings) if settings.bucket_url else _folder(settings)


def _folder(settings: StorageSettings) -> Store:
    folder, grace_seconds = settings.blob_folder, settings.storage_temp_grace_seconds
    prepare_folder(folder, setting="LEADS_BLOB_URL")
    blobs = LocalBlobs(folder, min_free_bytes=settings.storage_min_free_bytes)
    uploads = Uploads(blobs, folder, min_free_bytes=settings.storage_min_free_bytes)

    def arriving() -> frozenset[str]:
        return blobs.arriving() | uploads.arriving()

    @asynccontextmanager
    async def tended() -> AsyncIterator[None]:
        sweep_once = partial(sweep, blobs.incoming, arriving=arriving, grace_seconds=grace_seconds)
        disk = partial(measure_folder, "resumes", folder)
        async with running(SWEEP, keep_swept(sweep_once)), measuring("disk", disk, every_seconds=30):
            yield
        uploads.close()
        blobs.close()

    return Store(blobs, "folder", tended, uploads)


def _bucket(settings: StorageSettings) -> Store:
    """One that is away now may come back: it is not asked before the room answers, and `/readyz` tells of it."""
    # Here, since who has a folder need not wait for the library of buckets.
    from services.storage.buckets import TROUBLES, bucket_of, trouble_of
    from services.storage.objects import ObjectBlobs

    blobs = ObjectBlobs(bucket_of(settings))
    grace_seconds = settings.storage_temp_grace_seconds
    uploads = _beside(blobs, settings) if settings.storage_public_url else None

    async def sweep_once() -> int:
        removed = 0
        if uploads is not None:
            removed = await sweep(uploads.incoming, arriving=uploads.arriving, grace_seconds=grace_seconds)
        try:
            return removed + await blobs.sweep(grace_seconds)
        except TROUBLES as error:
            raise trouble_of(error) from error

    @asynccontextmanager
    async def tended() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if uploads is not None:
                stack.callback(uploads.close)
                disk = partial(measure_folder, "uploads", uploads.incoming)
                await stack.enter_async_context(measuring("disk", disk, every_seconds=30))
            await stack.enter_async_context(running(SWEEP, keep_swept(sweep_once)))
            yield

    return Store(blobs, "bucket", tended, uploads)


def _beside(blobs: BlobStore, settings: StorageSettings) -> Uploads:
    """Uploads that wait on this machine's disk until they can go into the bucket in one piece."""
    folder = settings.upload_folder
    prepare_folder(folder, setting="LEADS_DATA_DIR")
    return Uploads(blobs, folder, min_free_bytes=settings.storage_min_free_bytes)
