"""An app under the server that every room has, in a thread and on a loop of its own."""

import asyncio
import socket
import threading
import time
from functools import partial

import uvicorn
from starlette.types import ASGIApp

from shared.graceful import GracefulHttp, GracefulServer
from shared.short_reads import ShortReads


class Served:
    """Listens on a port of its own from its making; answers once it is started."""

    def __init__(self, app: ASGIApp) -> None:
        http = partial(ShortReads, GracefulHttp)
        config = uvicorn.Config(app, http=http, loop="uvloop", log_config=None, timeout_graceful_shutdown=5)  # type: ignore[arg-type]
        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self._server = GracefulServer(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]})

    async def start(self) -> None:
        """Returns when it answers."""
        self._thread.start()
        while not self._server.started:
            await asyncio.sleep(0.005)

    async def begin_to_stop(self) -> None:
        """Returns when it knows of it."""
        self._server.should_exit = True
        while not hasattr(self._server, "lifespan") or not self._server.lifespan.state:
            await asyncio.sleep(0.005)

    async def stop(self) -> float:
        """How long that took, in seconds."""
        began_at = time.monotonic()
        self._server.should_exit = True
        await asyncio.to_thread(self._thread.join, 10)
        return time.monotonic() - began_at
