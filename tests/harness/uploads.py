"""Uploads straight to a storage that runs in the test's own process: tickets, senders, and what lies there of them."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from shared.tickets import Tickets
from tests.harness import raw_http
from tests.harness.storage import SECRET, Storage
from tests.harness.tus import Sender

MAX_BYTES = 3_000_000
SIZE = 1_000_000
BODY = os.urandom(SIZE)
PUBLIC = {"storage_public_url": "https://uploads.example.com", "resume_max_bytes": MAX_BYTES}


def ticket_for(blob_id: str, size_bytes: int = SIZE) -> str:
    """A good ticket, as the api would make it."""
    return Tickets(SECRET).issue(blob_id, filename="cv.pdf", size_bytes=size_bytes)


@asynccontextmanager
async def sender_to(storage: Storage, blob_id: str, ticket: str | None = None) -> AsyncIterator[Sender]:
    """A sender for that blob, with a good ticket unless another is given."""
    url = f"http://127.0.0.1:{storage.port}/uploads/{blob_id}"
    async with Sender(url, ticket_for(blob_id) if ticket is None else ticket) as sender:
        yield sender


async def until(condition: Callable[[], object]) -> None:
    """Wait for it, for as long as the test may take."""
    while not condition():
        await asyncio.sleep(0.005)


async def break_off(storage: Storage, sender: Sender, blob_id: str, body: bytes, offset: int = 0) -> None:
    """Say that all will come, send `body`, and go away once the storage has seen most of it."""
    async with raw_http.connection(storage.port) as (_, writer):
        writer.write(sender.raw(offset, SIZE - offset, f"/uploads/{blob_id}") + body)
        await writer.drain()
        await until(lambda: half_size(storage, blob_id) > offset)
    await sender.quiet(SIZE)


def half_size(storage: Storage, blob_id: str) -> int:
    """Bytes that lie there of what has no name yet."""
    halves = [path for path in (storage.folder / ".incoming").iterdir() if path.name.startswith(blob_id)]
    return halves[0].stat().st_size if halves else 0
