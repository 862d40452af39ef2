"""Wires the storage room: its settings, its store, its doors, and what tends the store beside them."""

import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from services.storage.group_route import GroupRoute
from services.storage.routes import BlobRoutes, Guard
from services.storage.settings import StorageSettings
from services.storage.stores import store_of
from services.storage.upload_routes import CORS_METHODS, CORS_READ, CORS_SHOWN, UploadRoutes
from shared.cors import cors
from shared.health import Health
from shared.tickets import Tickets
from shared.tokens import SERVICE, Tokens
from shared.web import create_service


def create_app(settings: StorageSettings) -> FastAPI:
    """The storage room as an ASGI app. Raises `SettingsError` when its store or its secret cannot be used."""
    guard = Guard(Tokens(settings.resolved_service_secret, SERVICE))
    store = store_of(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with store.tended():
            yield

    app = create_service(
        "storage",
        Health({store.place: store.blobs.check}, {"uploads": store.uploads_check} if store.uploads_check else {}),
        lifespan,
        middleware=cors(_origins(settings), methods=CORS_METHODS, read_headers=CORS_READ, shown_headers=CORS_SHOWN),
        title="Leads: storage",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    BlobRoutes(store.blobs, guard, max_bytes=settings.resume_max_bytes).add_to(app)
    GroupRoute(store.blobs, guard, max_bytes=settings.resume_max_bytes).add_to(app)
    if store.uploads:
        tickets = Tickets(settings.resolved_service_secret)
        UploadRoutes(store.blobs, store.uploads, tickets, max_bytes=settings.resume_max_bytes).add_to(app, guard)
    return app


def _origins(settings: StorageSettings) -> tuple[str, ...]:
    """No page has anything to ask here where it cannot send a resume."""
    return settings.allowed_origins if settings.storage_public_url else ()
