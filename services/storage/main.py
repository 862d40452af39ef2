"""Wires the storage room: its settings, its store, its doors, and the sweep beside them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial

from fastapi import FastAPI

from services.storage.folder import prepare_folder
from services.storage.local import LocalBlobs
from services.storage.routes import BlobRoutes, Guard
from services.storage.settings import StorageSettings
from services.storage.sweep import keep_swept
from shared.background import measuring
from shared.disk import measure_folder
from shared.health import Health
from shared.tokens import SERVICE, Tokens
from shared.web import create_service


def create_app(settings: StorageSettings) -> FastAPI:
    """The storage room as an ASGI app. Raises `SettingsError` when its folder or its secret cannot be used."""
    guard = Guard(Tokens(settings.resolved_service_secret, SERVICE))
    prepare_folder(settings.blob_folder)
    blobs = LocalBlobs(settings.blob_folder, min_free_bytes=settings.storage_min_free_bytes)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(
            keep_swept(blobs.incoming, arriving=blobs.arriving, grace_seconds=settings.storage_temp_grace_seconds)
        )
        disk = partial(measure_folder, "resumes", settings.blob_folder)
        async with measuring("disk", disk, every_seconds=30):
            yield
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        blobs.close()

    app = create_service(
        "storage",
        Health(required={"folder": blobs.check}),
        lifespan,
        title="Leads: storage",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    BlobRoutes(blobs, guard, max_bytes=settings.resume_max_bytes).add_to(app)
    return app
