"""How a room's HTTP side comes to its end: every client finishes, and none runs into a closed door.

For a moment after it was told to stop it is a lame duck: it answers as before, new connections too, but each answer
says `Connection: close` and `/readyz` says 503, so that clients and proxies turn elsewhere by themselves. A connection
that stays silent for that moment is closed. Then nobody is let in any more, and what was begun is finished.

What no server can rule out is a client that writes to a silent connection while the news of its end is on the way
(RFC 9112, section 9.5). Nobody has read that request, and the client may send it again.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

import uvicorn

from shared.health import STOPPING
from shared.limited_http import LimitedHttp

LAME_DUCK_SECONDS = 0.5
"""Long enough for whoever sends one request after the other to hear of it; a room at rest still stops within 1.5 s."""

UNFINISHED_HEADERS_SECONDS = 1.0
"""How long the headers of a request may still take then; beyond it the answer is 408. Some rooms need their 8 s for
other work when the HTTP side has ended, and Docker kills after 10."""

LOOK_AGAIN_SECONDS = 0.02


class GracefulHttp(LimitedHttp):
    """`LimitedHttp` that parts from its client once the server is stopping."""

    _leaving: asyncio.TimerHandle | None = None
    _silent_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self._is_stopping():
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self._is_stopping():
            self._make_last()

    def on_response_complete(self) -> None:
        self._silent_since = self.loop.time()
        super().on_response_complete()

    def shutdown(self) -> None:
        """Let the answer under way be the last, and close as soon as the client has been silent for a moment."""
        if self._leaving is None:
            self._make_last()
            self._silent_since = self.loop.time()
            if self._awaits_headers():
                self._within(UNFINISHED_HEADERS_SECONDS, self._headers_late)
            self._leaving = self.loop.call_later(LAME_DUCK_SECONDS, self._leave)

    def _is_stopping(self) -> bool:
        return STOPPING in self.app_state

    def _within(self, seconds: float, otherwise: Callable[[], None]) -> None:
        is_late = self._is_stopping() and otherwise == self._headers_late
        super()._within(UNFINISHED_HEADERS_SECONDS if is_late else seconds, otherwise)

    def _make_last(self) -> None:
        """An answer that has begun has not said so: the client will not expect it, and may go on."""
        request = self._unanswered
        if request is not None and not request.response_started:
            request.keep_alive = False

    def _leave(self) -> None:
        """What has come by now is known: the loop hands it over before it looks at its timers."""
        silent_seconds = self.loop.time() - self._silent_since
        if not self._is_idle():
            self._leaving = self.loop.call_later(LOOK_AGAIN_SECONDS, self._leave)
        elif silent_seconds < LAME_DUCK_SECONDS:
            self._leaving = self.loop.call_later(LAME_DUCK_SECONDS - silent_seconds, self._leave)
        else:
            self.transport.close()


class GracefulServer(uvicorn.Server):
    """uvicorn's server, with a lame duck's moment before its stop."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Turn clients away, then close the door, then finish what was begun."""
        self.lifespan.state[STOPPING] = True
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAME_DUCK_SECONDS):
                await self._alone()
        for listening in sockets or []:
            await self._close_door(listening)
        await super().shutdown(sockets)

    async def _alone(self) -> None:
        while self.server_state.connections and not self.force_exit:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _close_door(self, listening: socket.socket) -> None:
        """Listen no more. Who is in the kernel's queue by then is let in: to close that queue would reset them."""
        with listening.dup() as queue:
            queue.setblocking(False)
            for server in self.servers:
                server.close()
            listening.close()
            arrived = _all_of(queue)
        for client in arrived:
            try:
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, client)
            except OSError:  # gone already: the others are let in all the same
                client.close()

    def _protocol(self) -> asyncio.Protocol:
        """As uvicorn makes them for the clients that it accepts itself."""
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def _all_of(queue: socket.socket) -> list[socket.socket]:
    """The clients that have connected and were not accepted yet, up to the first that cannot be."""
    clients: list[socket.socket] = []
    while True:
        try:
            client, _ = queue.accept()
        except OSError:
            return clients
        client.setblocking(False)
        clients.append(client)
