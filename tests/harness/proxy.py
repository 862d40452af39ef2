"""A TCP proxy that does to connections what networks do: resets, silence, half-open ends, refusal, delay.

It knows nothing of what it carries, so it can stand before RabbitMQ, the storage or SendGrid.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

CHUNK_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 s: closing sends RST instead of FIN (socket(7), tcp(7))."""


@dataclass(eq=False)
class _Connection:
    """Both ends of one connection through the proxy."""

    client: asyncio.StreamWriter
    target: asyncio.StreamWriter
    carrying: list[asyncio.Task[None]] = field(default_factory=list)

    def drop(self, writer: asyncio.StreamWriter) -> None:
        """Reset one end; the other hears nothing of it."""
        for task in self.carrying:
            task.cancel()
        with suppress(OSError):  # its peer was faster
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        writer.transport.abort()


class Proxy:
    """Listens on a port of its own on 127.0.0.1 and carries to 127.0.0.1:`target_port`, until told otherwise."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        """The same over `refuse` and `heal`."""
        self.delay_seconds = 0.0
        """How much later each piece arrives, both ways."""
        self._target_port = target_port
        self._connections: set[_Connection] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._to_target, self._to_client = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.heal()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.refuse()
        self.reset()
        await asyncio.gather(*self._serving)

    async def heal(self) -> None:
        """Carry everything at once again, also what silence kept back; what was reset or half open stays so."""
        self.delay_seconds = 0.0
        self._to_target.set()
        self._to_client.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Nobody listens. What is connected stays so."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            await asyncio.sleep(0)  # the listener is closed by the loop

    def reset(self) -> int:
        """RST to both ends of every connection; returns how many there were. New ones are carried."""
        count = len(self._connections)
        for connection in tuple(self._connections):
            connection.drop(connection.client)
            connection.drop(connection.target)
        self._connections.clear()
        return count

    def leave_half_open(self) -> int:
        """The target's ends are gone and the clients' hear nothing, as after a firewall forgot them.

        Returns how many there were. New connections are carried.
        """
        for connection in self._connections:
            connection.drop(connection.target)
        return len(self._connections)

    def black_hole(self, *, to_target: bool = True, to_client: bool = True) -> None:
        """Connections are accepted and stay open, and nothing arrives in these directions, the end of one included.

        What was sent is kept for `heal`, as TCP keeps it.
        """
        if to_target:
            self._to_target.clear()
        if to_client:
            self._to_client.clear()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._accept(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, target_writer)
        self._connections.add(connection)
        connection.carrying = [
            asyncio.create_task(self._carry(reader, target_writer, self._to_target)),
            asyncio.create_task(self._carry(target_reader, writer, self._to_client)),
        ]
        done, _ = await asyncio.wait(connection.carrying)
        if not any(task.cancelled() for task in done):  # otherwise somebody decides what becomes of its ends
            connection.drop(connection.client)
            connection.drop(connection.target)
            self._connections.discard(connection)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await asyncio.sleep(self.delay_seconds)
                await gate.wait()
                writer.write(data)
                await writer.drain()
        await gate.wait()
        with suppress(OSError):
            writer.write_eof()
