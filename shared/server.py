"""Runs a room under uvicorn until it is told to stop."""

import logging
import signal
import socket
import sys
from collections.abc import Awaitable
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from shared.graceful import LAME_DUCK_SECONDS, GracefulHttp, GracefulServer
from shared.settings import CannotStart
from shared.short_reads import ShortReads

KEEP_ALIVE_SECONDS = 30
STOP_GRACE_SECONDS = 8
EX_UNAVAILABLE = 69
"""Exit status when the port is taken (sysexits.h)."""

EX_SOFTWARE = 70
"""Exit status when the app does not start because of a defect, whose stack was logged."""


def serve(app: FastAPI, *, host: str, port: int, setting: str) -> None:
    """Serve until SIGINT or SIGTERM, then turn clients away and finish what was begun (8 s at most).

    A port in use is one line that names `setting`, and exit status 69. So is a database that this Leads cannot work
    with (78: to try again does not help) or not now (75).
    """
    try:
        listening = _bind(host, port)
    except OSError as error:
        sys.stderr.write(
            f"leads: {host}:{port} cannot be listened on ({error.strerror}): set {setting} to a free port.\n"
        )
        sys.exit(EX_UNAVAILABLE)
    start = _Start(app)
    # It would follow upon the reason, which is said already.
    logging.getLogger("uvicorn.error").addFilter(lambda record: "startup failed" not in record.getMessage())
    server = GracefulServer(uvicorn.Config(start, **_options()))
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: None)  # uvicorn raises it again when all is done; a clean stop is status 0
    try:
        server.run(sockets=[listening])
    except SystemExit:
        sys.exit(start.failed_with)


class _Start:
    """The app, and how its start failed: one that somebody can mend is said in one line, without a stack."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.failed_with = EX_SOFTWARE

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._start(scope, receive, send) if scope["type"] == "lifespan" else self._app(scope, receive, send)

    async def _start(self, scope: Scope, receive: Receive, send: Send) -> None:
        failure: Message | None = None

        async def hold_failure(message: Message) -> None:
            nonlocal failure
            if message["type"] == "lifespan.startup.failed":
                failure = message
            else:
                await send(message)

        try:
            await self._app(scope, receive, hold_failure)
        except CannotStart as error:
            self.failed_with = error.exit_status
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        except BaseException:
            if failure is not None:
                await send(failure)
            raise


def _options() -> dict[str, Any]:
    return {
        "interface": "asgi3",
        "http": partial(ShortReads, GracefulHttp),
        "ws": "none",
        "loop": "uvloop",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": KEEP_ALIVE_SECONDS,
        "timeout_graceful_shutdown": STOP_GRACE_SECONDS - LAME_DUCK_SECONDS,
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
