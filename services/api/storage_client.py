"""The api's way to the storage: what it keeps, reads, lists and removes there. Whatever goes wrong is a 503."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from http import HTTPStatus
from typing import Any, Self

import aiohttp
import structlog

from services.api.storage_hop import ANSWER_SECONDS, TROUBLES, StorageHop
from services.api.storage_puts import StoragePuts, StoredBlob
from shared.disposition import ATTACHMENT
from shared.problems import Problem
from shared.tokens import Tokens

READ_SECONDS = 60.0
"""How long it may take to read a whole resume and hash it."""

LISTED_AT_ONCE = 500

_READ = frozenset(
    {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, HTTPStatus.NOT_FOUND, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}
)

log = structlog.get_logger()


class StorageClient:
    """Blobs by id. Whatever goes wrong on the way is `Problem(UNAVAILABLE)` to the caller, and said in the log."""

    def __init__(self, url: str, tokens: Tokens) -> None:
        self._hop = StorageHop(url, tokens)
        self._puts = StoragePuts(self._hop)
        self.check = self._hop.check

    async def __aenter__(self) -> Self:
        """Open the kept-alive session."""
        await self._hop.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._hop.__aexit__(*exc_info)

    async def put(self, blob_id: str, chunks: AsyncIterator[bytes], disposition: str = ATTACHMENT) -> StoredBlob:
        """Keep a blob; returns when it is durable. If `chunks` raises, nothing is kept and its error comes out.

        `disposition` is what whoever is led to it past us is told (`link`).
        """
        return await self._puts.put(blob_id, chunks, disposition)

    async def receipt(self, blob_id: str) -> StoredBlob | None:
        """What the storage keeps under this id, durably, as it reads it now; None where it keeps nothing."""
        try:
            async with (
                asyncio.timeout(READ_SECONDS),
                self._hop.asked("GET", f"{self._hop.blob(blob_id)}/receipt") as response,
            ):
                if response.status == HTTPStatus.NOT_FOUND:
                    return None
                receipt = await self._hop.expect(response, 200)
        except TROUBLES as error:
            raise self._hop.unavailable("receipt", error) from error
        return StoredBlob(receipt["size_bytes"], receipt["sha256"])

    async def discard(self, blob_id: str) -> None:
        """Remove a blob that no lead will refer to. Never raises: what stays behind is swept later."""
        try:
            await self.remove(blob_id)
        except Problem:
            log.warning("blob not discarded, the sweep will take it", blob_id=blob_id)

    async def remove(self, blob_id: str) -> None:
        """Remove a blob, durably, whether or not it is there."""
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                self._hop.asked("DELETE", self._hop.blob(blob_id)) as response,
            ):
                await self._hop.expect(response, 204)
        except TROUBLES as error:
            raise self._hop.unavailable("delete", error) from error

    async def read(self, blob_id: str, range_header: str | None) -> tuple[aiohttp.ClientResponse, bytes]:
        """The blob's answer, 200, 206, 404 or 416, and all of its body: for short ones. Raises `Problem` 503."""
        headers = {"Range": range_header} if range_header else {}
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                await self._hop.answer("GET", self._hop.blob(blob_id), headers=headers) as response,
            ):
                if response.status not in _READ:
                    await self._hop.expect(response, HTTPStatus.OK)
                return response, await response.read()
        except TROUBLES as error:
            raise self._hop.unavailable("get", error) from error

    @asynccontextmanager
    async def get(self, blob_id: str, range_header: str | None) -> AsyncIterator[aiohttp.ClientResponse]:
        """The blob's answer, to be streamed: 200, 206, 404 or 416. Raises `Problem` 503."""
        headers = {"Range": range_header} if range_header else {}
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS) as patience,
                self._hop.asked("GET", self._hop.blob(blob_id), headers=headers) as response,
            ):
                patience.reschedule(None)  # how long the body takes is the reader's affair
                if response.status not in _READ:
                    await self._hop.expect(response, HTTPStatus.OK)
                yield response
        except TROUBLES as error:
            raise self._hop.unavailable("get", error) from error

    async def link(self, blob_id: str) -> str | None:
        """Where the blob can be fetched for a minute without us; None where it cannot, or is not there."""
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                self._hop.asked("GET", f"{self._hop.blob(blob_id)}/link") as response,
            ):
                if response.status == HTTPStatus.NOT_FOUND:
                    return None
                return (await self._hop.expect(response, 200))["url"]  # type: ignore[no-any-return]
        except TROUBLES as error:
            raise self._hop.unavailable("link", error) from error

    async def list_stored(self, before: datetime, after_id: str) -> tuple[list[str], str | None]:
        """Ids of blobs stored before that instant, from `after_id` on, and where to go on."""
        query = {"stored_before": before.isoformat(), "after": after_id, "limit": str(LISTED_AT_ONCE)}
        params = {name: value for name, value in query.items() if value}
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS * 5),
                self._hop.asked("GET", f"{self._hop.url}/blobs", params=params) as response,
            ):
                body = await self._hop.expect(response, 200)
        except TROUBLES as error:
            raise self._hop.unavailable("list", error) from error
        return [blob["id"] for blob in body["blobs"]], body["next"]

    async def newest_lead(self) -> str | None:
        """What `note_newest_lead` noted last."""
        return (await self._note("GET", 200))["id"]  # type: ignore[no-any-return]

    async def note_newest_lead(self, lead_id: str) -> None:
        """Keep the id of a lead, durably, beside the blobs: a database that does not have it is not theirs."""
        await self._note("PUT", 204, json={"id": lead_id})

    async def _note(self, method: str, status: int, **options: Any) -> Mapping[str, Any]:
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                self._hop.asked(method, f"{self._hop.url}/newest-lead", **options) as response,
            ):
                noted: Mapping[str, Any] = await self._hop.expect(response, status)
                return noted
        except TROUBLES as error:
            raise self._hop.unavailable("note", error) from error
