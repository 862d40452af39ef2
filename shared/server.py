"""Runs a room under uvicorn, with the limits on receiving that uvicorn itself does not set.

uvicorn waits for ever for the headers of a request (https://github.com/encode/uvicorn/issues/157) and puts no bound on
their size; `LimitedHttp` closes a connection whose headers take too long or grow too large.
"""

import asyncio
import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.problems import MEDIA_TYPE, Problem, ProblemType
from shared.web import HEADERS_MAX_BYTES

HEADERS_DEADLINE_SECONDS = 10.0
UNFINISHED_HEADERS_MAX_BYTES = 4 * HEADERS_MAX_BYTES
"""Where a header block without an end is cut off. One with an end and over the limit gets its 431 from the app."""

KEEP_ALIVE_SECONDS = 30
STOP_GRACE_SECONDS = 8
EX_UNAVAILABLE = 69
"""Exit status when the port is taken (sysexits.h)."""


class LimitedHttp(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol with a deadline and a bound for request headers."""

    _headers_timer: asyncio.TimerHandle | None = None
    _headers_bytes = 0
    _headers_done = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_arrived()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._headers_done = False
        self._headers_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._headers_arrived()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._headers_done or self.transport.is_closing():
            return
        self._headers_bytes += len(data)
        if self._headers_bytes > UNFINISHED_HEADERS_MAX_BYTES:
            self._refuse(Problem(ProblemType.HEADERS_TOO_LARGE, "The request headers do not end."))
        elif self._headers_timer is None:
            self._await_headers()

    def _await_headers(self) -> None:
        self._headers_timer = self.loop.call_later(HEADERS_DEADLINE_SECONDS, self._headers_late)

    def _headers_arrived(self) -> None:
        self._headers_done = True
        if self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None

    def _headers_late(self) -> None:
        self._headers_timer = None
        detail = f"The request headers did not arrive within {HEADERS_DEADLINE_SECONDS:.0f} seconds."
        self._refuse(Problem(ProblemType.REQUEST_TIMEOUT, detail))

    def send_400_response(self, msg: str) -> None:
        """What uvicorn says to bytes that are no HTTP, in the shape of every other error here."""
        del msg
        self._refuse(Problem(ProblemType.MALFORMED_REQUEST, "This is not a well-formed HTTP/1.1 request."))

    def _refuse(self, problem: Problem) -> None:
        body = problem.body()
        head = (
            f"HTTP/1.1 {problem.status.value} {problem.status.phrase}\r\n"
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


def serve(app: FastAPI, *, host: str, port: int, setting: str) -> None:
    """Serve until SIGINT or SIGTERM, then finish what was begun (8 s at most).

    A port in use is one line that names `setting`, and exit status 69.
    """
    try:
        listening = _bind(host, port)
    except OSError as error:
        sys.stderr.write(
            f"leads: {host}:{port} cannot be listened on ({error.strerror}): set {setting} to a free port.\n"
        )
        sys.exit(EX_UNAVAILABLE)
    server = uvicorn.Server(uvicorn.Config(app, **_options()))
    server.run(sockets=[listening])


def _options() -> dict[str, Any]:
    return {
        "http": LimitedHttp,
        "ws": "none",
        "loop": "uvloop",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": STOP_GRACE_SECONDS,
    }


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(2048)
    except OSError:
        listening.close()
        raise
    return listening
