"""A peer that is one server: what all of them have in common."""

from pathlib import Path

from bench.peers.process import Server, resident_mib
from bench.peers.protocol import Kept, still
from tests.harness.deployment import free_ports


class ServerPeer:
    """Started by `__aenter__` of whichever it is, as `_server`, to answer at `_url`."""

    name: str
    _server: Server

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._url = f"http://127.0.0.1:{free_ports(1)[0]}"

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.stop()

    async def settle(self, accepted: int) -> Kept:
        return await still(self.name, self._count, accepted)

    def resident_mib(self) -> float:
        return resident_mib([self._server.pid])

    def _count(self) -> Kept:
        """What is kept just now, looked up behind its back."""
        raise NotImplementedError
