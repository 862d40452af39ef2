"""What the supervisor knows about a room: how it is started, where it listens, how it says that it is ready."""

import asyncio
import errno
import os
import socket
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from services.cli import journal

POLL_SECONDS = 0.05
ANSWER_TIMEOUT_SECONDS = 3.0
SLOW_SECONDS = 10.0
"""After this long, and every so long again, a room that is not ready is said."""

_TETHER = Path(__file__).with_name("tether.py")
_OK = b"200"


class PortTaken(Exception):  # noqa: N818
    """A room's port cannot be listened on; the message is the one line to print."""


@dataclass(frozen=True)
class Room:
    """One process to keep running. `needed_by` names the rooms that must be gone before this one is told to stop."""

    name: str
    command: tuple[str, ...]
    port: int
    ready_url: str
    port_setting: str = ""
    needed_by: tuple[str, ...] = ()
    processors: tuple[int, ...] = ()
    """Those that it runs on once it is ready; empty: on any. To get ready fast takes all there are."""

    def tethered_command(self, processors: Collection[int] = ()) -> tuple[str, ...]:
        """The command, made to end when the process that asks for it here ends, and to run on these, if any."""
        tether = (sys.executable, "-I", "-S", str(_TETHER))
        return (*tether, str(os.getpid()), ",".join(map(str, sorted(processors))), *self.command)


def check_port(room: Room, host: str) -> None:
    """Raises `PortTaken` when the room could not listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, room.port))
            probe.listen()
        except OSError as error:
            raise PortTaken(_why(room, host, error)) from None


async def until_ready(room: Room) -> None:
    """Returns when the room says that it is ready; says so now and then while it does not."""
    began_at = said_at = time.monotonic()
    while (state := await _state(room.ready_url)) is not None:
        now = time.monotonic()
        if now - said_at >= SLOW_SECONDS:
            said_at = now
            journal.warn("room is not ready yet", room=room.name, waited_seconds=round(now - began_at), says=state)
        await asyncio.sleep(POLL_SECONDS)


def _why(room: Room, host: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {room.port} is in use: set {room.port_setting} to a free one"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return f"{host} is no address of this machine: set LEADS_HOST to one that is"
    return f"port {room.port} cannot be listened on ({error.strerror}): set {room.port_setting} to another one"


async def _state(url: str) -> str | None:
    """None when the room is ready, otherwise what it says."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
            status, body = await _get(url)
    except (OSError, EOFError):  # TimeoutError is an OSError
        return "nothing"
    return None if status == _OK else body


async def _get(url: str) -> tuple[bytes, str]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(f"GET {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.read()
    finally:
        writer.close()
    return head.split(b" ", 2)[1], body.decode(errors="replace")
