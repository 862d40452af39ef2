"""The store that `LEADS_BLOB_URL` names, made ready, with what goes on beside it for as long as the room is open."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from services.storage.adoption import IntoBucket, IntoFolder
from services.storage.blobs import BlobStore
from services.storage.folder import INCOMING, check_folder, prepare_folder
from services.storage.local import LocalBlobs
from services.storage.settings import StorageSettings
from services.storage.sweep import keep_swept, sweep
from services.storage.uploads import Uploads
from shared.background import measuring, running
from shared.disk import measure_folder

SWEEP = "sweep of unfinished resumes"
UPLOAD_THREADS = 4


@dataclass(frozen=True)
class Store:
    """The blobs, what `/readyz` calls the place they are in, and what tends it."""

    blobs: BlobStore
    place: str
    tended: Callable[[], AbstractAsyncContextManager[None]]
    uploads: Uploads | None
    """Where bodies come in several requests; None where that is not offered."""
    uploads_check: Callable[[], Awaitable[None]] | None = None
    """Raises `StoreUnfit` where they have a disk of their own and it takes nothing now."""


def store_of(settings: StorageSettings) -> Store:
    """Raises `SettingsError` when it cannot be used as it is set."""
    return _bucket(settings) if settings.bucket_url else _folder(settings)


def _folder(settings: StorageSettings) -> Store:
    folder, min_free_bytes = settings.blob_folder, settings.storage_min_free_bytes
    prepare_folder(folder, setting="LEADS_BLOB_URL")
    threads = _upload_threads()
    blobs = LocalBlobs(folder, min_free_bytes=min_free_bytes)
    uploads = Uploads(IntoFolder(blobs, threads), folder, threads, min_free_bytes=min_free_bytes)
    left_over = settings.upload_folder / INCOMING  # from when resumes were kept in a bucket

    def arriving() -> frozenset[str]:
        return blobs.arriving() | uploads.arriving()

    @asynccontextmanager
    async def tended() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(blobs.close)
            stack.callback(threads.shutdown)
            await stack.enter_async_context(_swept(blobs.incoming, settings, arriving))
            if left_over.exists():
                await stack.enter_async_context(_swept(left_over, settings, frozenset))
            await stack.enter_async_context(_measured("resumes", folder))
            yield

    return Store(blobs, "folder", tended, uploads if settings.storage_public_url else None)


def _bucket(settings: StorageSettings) -> Store:
    """One that is away now may come back: it is not asked before the room answers, and `/readyz` tells of it.

    Uploads wait on this machine's disk until they can go there whole.
    """
    # Here, since who has a folder need not wait for the library of buckets.
    from services.storage.buckets import TROUBLES, bucket_of, trouble_of
    from services.storage.objects import ObjectBlobs

    blobs = ObjectBlobs(bucket_of(settings))
    folder, min_free_bytes, threads = settings.upload_folder, settings.storage_min_free_bytes, _upload_threads()
    incoming, uploads = folder / INCOMING, None
    if settings.storage_public_url:
        prepare_folder(folder, setting="LEADS_DATA_DIR", links=False)
        uploads = Uploads(IntoBucket(blobs, threads), folder, threads, min_free_bytes=min_free_bytes)

    async def sweep_once() -> int:
        try:
            return await blobs.sweep(settings.storage_temp_grace_seconds)
        except TROUBLES as error:
            raise trouble_of(error) from error

    @asynccontextmanager
    async def tended() -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(threads.shutdown)
            await stack.enter_async_context(running(SWEEP, keep_swept(sweep_once)))
            if incoming.exists():  # also where uploads are not offered any more
                arriving = uploads.arriving if uploads else frozenset
                await stack.enter_async_context(_swept(incoming, settings, arriving))
                await stack.enter_async_context(_measured("uploads", incoming))
            yield

    check = partial(asyncio.to_thread, check_folder, folder, min_free_bytes, links=False)
    return Store(blobs, "bucket", tended, uploads, check if uploads else None)


def _upload_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(UPLOAD_THREADS, thread_name_prefix="upload-writer")


def _swept(
    incoming: Path, settings: StorageSettings, arriving: Callable[[], frozenset[str]]
) -> AbstractAsyncContextManager[object]:
    sweep_once = partial(sweep, incoming, arriving=arriving, grace_seconds=settings.storage_temp_grace_seconds)
    return running(SWEEP, keep_swept(sweep_once))


def _measured(place: str, folder: Path) -> AbstractAsyncContextManager[object]:
    return measuring("disk", partial(measure_folder, place, folder), every_seconds=30)
