"""The storage room in the test's own process, on a real socket, so that a test can watch or break its disk."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from pydantic import SecretStr

from services.storage.main import create_app
from services.storage.settings import StorageSettings
from shared.limited_http import LimitedHttp
from shared.server import KEEP_ALIVE_SECONDS
from shared.tokens import SERVICE, Tokens

SECRET = "a-service-secret-of-the-tests-only"


@dataclass(frozen=True)
class Storage:
    """A running storage, and a client that carries a good token."""

    port: int
    folder: Path
    client: aiohttp.ClientSession

    def kept(self) -> set[str]:
        """Names of what is stored."""
        return {path.name for path in self.folder.iterdir() if path.name != ".incoming"}

    def unfinished(self) -> set[str]:
        """Names of what is on its way in."""
        return {path.name for path in (self.folder / ".incoming").iterdir()}


def token(lifetime_seconds: int = 60) -> str:
    """A good service token."""
    return Tokens(SECRET, SERVICE).issue("api", lifetime_seconds)


@asynccontextmanager
async def storage_in(folder: Path, **settings: Any) -> AsyncIterator[Storage]:
    """A storage with its data under `folder`, stopped afterwards."""
    given = StorageSettings(data_dir=folder, service_secret=SecretStr(SECRET), **settings)
    config = uvicorn.Config(
        create_app(given),
        http=LimitedHttp,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,  # longer than the client's 15 s, as between api and storage
    )
    # The protocol is named, else asyncio leaves Nagle's algorithm on for what is accepted: 40 ms an answer.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    port = listening.getsockname()[1]
    try:
        while not server.started:
            await asyncio.sleep(0.005)
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token()}"}
        ) as client:
            yield Storage(port, given.blob_folder, client)
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    """Leaves the signals to pytest."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()
