"""A bare ASGI app under uvicorn: as much as a Python server can do when it does nothing with what it gets."""

import sys
from typing import Self

from bench.peers.process import Server
from bench.peers.protocol import Kept
from bench.peers.server import ServerPeer


class BareAsgi(ServerPeer):
    """Reads the body and discards it; keeps nothing. `GET /N` streams N bytes."""

    name = "bare ASGI, discards"

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", "uvicorn", "bench.floors.asgi:app", "--no-access-log"]
        self._server = Server([*command, "--port", self._url.rpartition(":")[2]], self._folder)
        await self._server.ready(f"{self._url}/0")
        return self

    @property
    def intake_url(self) -> str:
        return self._url

    async def settle(self, accepted: int) -> Kept:
        del accepted
        return Kept(0, 0)
