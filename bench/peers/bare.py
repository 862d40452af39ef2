"""A bare ASGI app under uvicorn: as much as a Python server can do when it does nothing with what it gets."""

import sys
from pathlib import Path
from typing import Self

from bench.peers.process import Server, resident_mib
from bench.peers.protocol import Kept
from tests.harness.deployment import free_ports


class BareAsgi:
    """Reads the body and discards it; keeps nothing. `GET /N` streams N bytes."""

    name = "bare ASGI, discards"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", "uvicorn", "bench.floors.asgi:app", "--no-access-log"]
        self._server = Server([*command, "--port", self.url.rpartition(":")[2]], self._folder)
        await self._server.ready(f"{self.url}/0")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.stop()

    @property
    def intake_url(self) -> str:
        return self.url

    async def settle(self, accepted: int) -> Kept:
        del accepted
        return Kept(0, 0)

    def resident_mib(self) -> float:
        return resident_mib([self._server.pid])
