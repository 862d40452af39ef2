"""A sender of big files as a program outside would write it, by tus 1.0.0: nothing of Leads is imported."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Self

import aiohttp

from tests.harness import raw_http

PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Told:
    """One answer: its status, how many bytes it says have come, its problem type, and the rest."""

    status: int
    offset: int | None
    problem: str
    headers: Mapping[str, str]


class Sender:
    """Sends one file to where a ticket is good for it."""

    def __init__(self, url: str, ticket: str) -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {ticket}", "Tus-Resumable": "1.0.0"}

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()

    async def ask(self) -> Told:
        """How much has come."""
        return await self._call("HEAD", {})

    async def send(
        self, body: bytes, offset: int, headers: Mapping[str, str] | None = None, *, chunked: bool = False
    ) -> Told:
        """The bytes from `offset` on, all at once or without saying how many they are."""
        data = _chunks(body[offset:]) if chunked else BytesIO(body[offset:])
        own = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
        return await self._call("PATCH", {**own, **(headers or {})}, data)

    async def send_all(self, body: bytes) -> Told:
        """Ask, and send what is missing: what one does after whatever went wrong."""
        told = await self.ask()
        return await self.send(body, told.offset or 0)

    async def quiet(self, size_bytes: int) -> int:
        """How much of a file of this size has come, once the storage has seen that an earlier request broke off."""
        while (told := await self.send(b"", size_bytes)).offset is None:
            await asyncio.sleep(0.01)  # refused either way, and told where to go on only when nobody is sending
        return told.offset

    def raw(self, offset: int, length: int, path: str) -> bytes:
        """The head of a request that sends `length` bytes, for who sends fewer."""
        headers = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
        return raw_http.head("PATCH", path, {**self.headers, **headers, "Content-Length": str(length)})

    async def _call(self, method: str, headers: Mapping[str, str], data: Any = None) -> Told:
        said = {name: value for name, value in {**self.headers, **headers}.items() if value}
        async with self._session.request(method, self.url, headers=said, data=data) as response:
            body = await response.json(content_type=None) if "json" in response.content_type else {}
            offset = response.headers.get("Upload-Offset")
            problem = str((body or {}).get("type", "")).removeprefix("urn:leads:problem:")
            return Told(response.status, None if offset is None else int(offset), problem, response.headers)


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]
