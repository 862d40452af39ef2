"""A connection that is read a little at a time."""

import asyncio
from typing import Any

from shared.limited_http import LimitedHttp

READ_BYTES = 64 * 1024


class ShortReads(asyncio.BufferedProtocol):
    """A `protocol`, fed with little at a time: uvloop else reads 250 KiB at once, which each of many senders holds."""

    _buffer = memoryview(bytearray(READ_BYTES))  # one for all: what was read is copied before the next read

    def __init__(self, protocol: type[LimitedHttp], **options: Any) -> None:
        self._http = protocol(**options)
        self.connection_lost = self._http.connection_lost  # type: ignore[method-assign]
        self.pause_writing = self._http.pause_writing  # type: ignore[method-assign]
        self.resume_writing = self._http.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._http.connection_made(transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._http.data_received(bytes(self._buffer[:nbytes]))
