"""HTTP by hand, for requests that no client library would send. Knows sockets and bytes, nothing of Leads."""

import asyncio
import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

BOUNDARY = "----boundary0123456789"
PATIENCE_SECONDS = 15.0
PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class RawAnswer:
    """What came back before the server closed, or before the answer was whole. Status 0: nothing came."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    rest: bytes = b""
    """What followed the answer on the same connection, if it was read to its end."""
    reset: bool = False
    """The connection was reset instead of ended."""

    @property
    def json(self) -> Any:
        """The body as JSON; None when it is not."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True)
class Part:
    """One part of a form. `disposition` replaces the whole header where the test wants an odd one."""

    name: str
    content: bytes
    filename: str | None = None
    disposition: bytes | None = None
    headers: Sequence[bytes] = ()

    def encode(self) -> bytes:
        """Headers, blank line, content, line end."""
        said = self.disposition
        if said is None:
            named = "" if self.filename is None else f'; filename="{self.filename}"'
            said = f'Content-Disposition: form-data; name="{self.name}"{named}'.encode()
        return b"\r\n".join([said, *self.headers, b"", self.content, b""])


def form(parts: Iterable[Part], boundary: str = BOUNDARY) -> bytes:
    """The body of a multipart/form-data request."""
    line = b"--" + boundary.encode()
    return b"".join(line + b"\r\n" + part.encode() for part in parts) + line + b"--\r\n"


def head(method: str, target: str, headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()) -> bytes:
    """Request line and headers, with a Host unless one is given."""
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.insert(0, ("Host", "leads.test"))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def connection(
    port: int, source: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to 127.0.0.1, closed afterwards."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024 * 1024, local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def exchange(
    port: int,
    *pieces: bytes | AsyncIterable[bytes],
    half_close: bool = False,
    to_end: bool = False,
    bodiless: bool = False,
    seconds: float = PATIENCE_SECONDS,
    source: str = "127.0.0.1",
) -> RawAnswer:
    """Send, and read the answer while sending, as a good client does. Fails when neither comes to an end in time.

    `bodiless`: the answer is one to HEAD. `source`: the address to come from.
    """
    async with asyncio.timeout(seconds), connection(port, source) as (reader, writer):
        sending = asyncio.create_task(_send(writer, pieces, half_close=half_close))
        try:
            return await read_answer(reader, to_end=to_end, bodiless=bodiless)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def send_then_read(port: int, data: bytes, *, seconds: float = PATIENCE_SECONDS) -> RawAnswer:
    """Send everything and only then look at the answer, as simple clients do: a reset loses the answer to them."""
    async with asyncio.timeout(seconds), connection(port) as (reader, writer):
        transport = writer.transport
        transport.pause_reading()  # type: ignore[attr-defined]
        await _send(writer, [data], half_close=False)
        while transport.get_write_buffer_size() and not transport.is_closing():
            await asyncio.sleep(0.005)
        with suppress(RuntimeError):
            transport.resume_reading()  # type: ignore[attr-defined]
        return await read_answer(reader)


async def read_answer(reader: asyncio.StreamReader, *, to_end: bool = False, bodiless: bool = False) -> RawAnswer:
    """The next final answer (1xx are skipped)."""
    reset = False
    head_lines = b""
    try:
        head_lines = await reader.readuntil(b"\r\n\r\n")
        while head_lines.startswith(b"HTTP/1.1 1"):
            head_lines = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as cut:
        head_lines = cut.partial
    except OSError:
        reset = True
    if not head_lines.endswith(b"\r\n\r\n"):
        return RawAnswer(0, body=head_lines, reset=reset)
    status, headers = _parse_head(head_lines)
    body, reset = (b"", False) if bodiless else await _read_body(reader, headers)
    rest = await _read_rest(reader) if to_end and not reset else b""
    return RawAnswer(status, headers, body, rest, reset)


def _parse_head(head_lines: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head_lines.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(first.split(" ")[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _read_body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> tuple[bytes, bool]:
    try:
        if "chunked" in headers.get("transfer-encoding", ""):
            return await _read_chunks(reader), False
        return await reader.readexactly(int(headers.get("content-length", "0"))), False
    except asyncio.IncompleteReadError as cut:
        return cut.partial, False
    except OSError:
        return b"", True


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).strip() or b"0", 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


async def _read_rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(-1)
    except OSError:
        return b""


async def _send(
    writer: asyncio.StreamWriter, pieces: Iterable[bytes | AsyncIterable[bytes]], *, half_close: bool
) -> None:
    with suppress(OSError):
        for piece in pieces:
            async for data in _cut(piece):
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0)  # `drain` alone lets nobody read as long as the server takes all
        if half_close:
            writer.write_eof()


async def _cut(piece: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(piece, bytes):
        for start in range(0, len(piece), PIECE_BYTES):
            yield piece[start : start + PIECE_BYTES]
        return
    async for data in piece:
        yield data
