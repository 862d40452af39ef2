"""Runs a room under uvicorn until it is told to stop."""

import signal
import socket
import sys
from typing import Any

import uvicorn
from fastapi import FastAPI

from shared.limited_http import ShortReads

KEEP_ALIVE_SECONDS = 30
STOP_GRACE_SECONDS = 8
EX_UNAVAILABLE = 69
"""Exit status when the port is taken (sysexits.h)."""


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
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: None)  # uvicorn raises it again when all is done; a clean stop is status 0
    server.run(sockets=[listening])


def _options() -> dict[str, Any]:
    return {
        "http": ShortReads,
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
