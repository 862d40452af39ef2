"""The api's way to the storage: one kept-alive HTTP hop, with deadlines, and one answer to every fault: 503."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Self

import aiohttp
import structlog
from starlette.requests import ClientDisconnect

from shared.observe import CORRELATION_HEADER, correlation_id
from shared.problems import Problem, ProblemType
from shared.repeats import Repeats
from shared.tokens import CLOCK_HEADER, LEEWAY_SECONDS, Tokens
from shared.tracing.client import client_spans

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 4.0
"""How long the storage may take to accept a piece, or to answer."""

READ_SECONDS = 60.0
"""How long it may take to read a whole resume and hash it."""

SHORT_MAX_BYTES = 128 * 1024
"""Up to this size a resume is held until all of it is there."""

TOKEN_SECONDS = 120
RETRY_AFTER_SECONDS = 5
LISTED_AT_ONCE = 500

log = structlog.get_logger()


@dataclass(frozen=True)
class StoredBlob:
    """What the storage says it keeps."""

    size_bytes: int
    sha256: str


class StorageClient:
    """Blobs by id. Whatever goes wrong on the way is `Problem(UNAVAILABLE)` to the caller, and said in the log."""

    _session: aiohttp.ClientSession

    def __init__(self, url: str, tokens: Tokens) -> None:
        self._url = url
        self._tokens = tokens
        self._token = ""
        self._token_until = 0.0
        self._ahead_seconds = 0.0
        """How far the storage's clock is ahead of ours, once that has mattered."""
        self._is_refused = False
        self._repeats = Repeats()

    async def __aenter__(self) -> Self:
        """Open the kept-alive session. It has no total timeout: an upload takes as long as its sender does."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trace_configs=client_spans(propagate=True),
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()

    async def put(self, blob_id: str, chunks: AsyncIterator[bytes], disposition: str = "attachment") -> StoredBlob:
        """Keep a blob; returns when it is durable. If `chunks` raises, nothing is kept and its error comes out.

        `disposition` is what whoever is led to it past us is told (`link`).
        A short one goes in one piece when all of it is there, which is cheaper for both ends; a long one is streamed.
        That cannot be said twice, so the storage says first whether it goes by our token (`Expect: 100-continue`).
        """
        held = bytearray()
        async for chunk in chunks:
            held += chunk
            if len(held) > SHORT_MAX_BYTES:
                return await self._put(blob_id, _Watched(held, chunks), disposition)
        return await self._put(blob_id, bytes(held), disposition)

    async def _put(self, blob_id: str, body: "bytes | _Watched", disposition: str) -> StoredBlob:
        try:
            async with asyncio.timeout(ANSWER_SECONDS) as patience:
                streamed = isinstance(body, _Watched)
                data = partial(body.chunks, patience) if isinstance(body, _Watched) else lambda: body
                headers = {"Content-Disposition": disposition}
                async with self._asked(
                    "PUT", self._blob(blob_id), data=data, expect100=streamed, headers=headers
                ) as response:
                    receipt = await self._expect(response, 201)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(body, _Watched) and body.failure is not None:
                raise body.failure from None
            raise self._unavailable("put", error) from error
        return StoredBlob(receipt["size_bytes"], receipt["sha256"])

    async def receipt(self, blob_id: str) -> StoredBlob | None:
        """What the storage keeps under this id, durably, as it reads it now; None where it keeps nothing."""
        try:
            async with (
                asyncio.timeout(READ_SECONDS),
                self._asked("GET", f"{self._blob(blob_id)}/receipt") as response,
            ):
                if response.status == HTTPStatus.NOT_FOUND:
                    return None
                receipt = await self._expect(response, 200)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable("receipt", error) from error
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
                self._asked("DELETE", self._blob(blob_id)) as response,
            ):
                await self._expect(response, 204)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable("delete", error) from error

    @asynccontextmanager
    async def get(self, blob_id: str, range_header: str | None) -> AsyncIterator[aiohttp.ClientResponse]:
        """The blob's answer, to be streamed: 200, 206 or 416. Raises `Problem` 404 or 503."""
        headers = {"Range": range_header} if range_header else {}
        try:
            async with self._asked("GET", self._blob(blob_id), headers=headers) as response:
                if response.status not in (200, 206, 404, 416):
                    await self._expect(response, 200)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable("get", error) from error

    async def link(self, blob_id: str) -> str | None:
        """Where the blob can be fetched for a minute without us; None where it cannot, or is not there."""
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                self._asked("GET", f"{self._blob(blob_id)}/link") as response,
            ):
                if response.status == HTTPStatus.NOT_FOUND:
                    return None
                return (await self._expect(response, 200))["url"]  # type: ignore[no-any-return]
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable("link", error) from error

    async def list_stored(self, before: datetime, after_id: str) -> tuple[list[str], str | None]:
        """Ids of blobs stored before that instant, from `after_id` on, and where to go on."""
        query = {"stored_before": before.isoformat(), "after": after_id, "limit": str(LISTED_AT_ONCE)}
        params = {name: value for name, value in query.items() if value}
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS * 5),
                self._asked("GET", f"{self._url}/blobs", params=params) as response,
            ):
                body = await self._expect(response, 200)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable("list", error) from error
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
                self._asked(method, f"{self._url}/newest-lead", **options) as response,
            ):
                return await self._expect(response, status)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unavailable("note", error) from error

    async def check(self) -> None:
        """Raises when the storage is not ready, or has refused our token the last time."""
        async with self._session.get(f"{self._url}/readyz") as response:
            if response.status != 200:  # noqa: PLR2004
                raise RuntimeError(f"the storage at {self._url} is not ready")
        if self._is_refused:
            raise RuntimeError(f"the storage at {self._url} has another LEADS_SERVICE_SECRET than this api")

    @asynccontextmanager
    async def _asked(
        self,
        method: str,
        url: str,
        *,
        data: Callable[[], Any] = lambda: None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer. A token that is refused may be one of another time: it is made anew, and asked again.

        Twice, since clocks may jump at any moment, and others make tokens at the same time. `data` makes the body.
        """
        for repairs_left in (2, 1, 0):
            sent = {**self._headers(), **(headers or {})}
            async with self._session.request(method, url, headers=sent, data=data(), **options) as response:
                if response.status == HTTPStatus.UNAUTHORIZED:
                    self._learn_clock(response)
                    if repairs_left:
                        continue
                self._is_refused = response.status == HTTPStatus.UNAUTHORIZED
                yield response
                return

    def _learn_clock(self, response: aiohttp.ClientResponse) -> None:
        """The next token is made by the storage's clock, which is what verifies it."""
        self._token_until = 0.0
        try:
            told = float(response.headers[CLOCK_HEADER])
        except (KeyError, ValueError):
            return
        self._ahead_seconds = told - time.time()
        if abs(self._ahead_seconds) > LEEWAY_SECONDS and self._repeats.is_news("apart"):
            advice = "let both machines keep their time: chrony or systemd-timesyncd"
            log.warning("storage has another time", ahead_seconds=round(self._ahead_seconds), advice=advice)

    async def _expect(self, response: aiohttp.ClientResponse, status: int) -> Mapping[str, Any]:
        if response.status == status:
            body: Mapping[str, Any] = {} if status == HTTPStatus.NO_CONTENT else await response.json()
            return body
        said = (await response.content.read(2000)).decode(errors="replace")
        advice = {"setting": "LEADS_SERVICE_SECRET must be the same for both"} if self._is_refused else {}
        log.error("storage refused", status=response.status, said=said, **advice)
        raise _try_again()

    def _unavailable(self, verb: str, error: BaseException) -> Problem:
        log.error("storage unavailable", verb=verb, reason=str(error) or type(error).__name__)
        return _try_again()

    def _blob(self, blob_id: str) -> str:
        return f"{self._url}/blobs/{blob_id}"

    def _headers(self) -> dict[str, str]:
        now = time.monotonic()
        if now > self._token_until:
            self._token = self._tokens.issue("api", TOKEN_SECONDS, ahead_seconds=self._ahead_seconds)
            self._token_until = now + TOKEN_SECONDS / 2
        headers = {"Authorization": f"Bearer {self._token}"}
        if found := correlation_id():
            headers[CORRELATION_HEADER] = found
        return headers


class _Watched:
    """An upload's chunks, with a deadline on the storage but not on the person who sends them.

    aiohttp reports whatever the chunks raise as a connection error: the true reason is kept here.
    """

    def __init__(self, held: bytearray, chunks: AsyncIterator[bytes]) -> None:
        self._held = held
        self._chunks = chunks
        self.failure: Problem | ClientDisconnect | None = None

    async def chunks(self, patience: asyncio.Timeout) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        held, self._held = bytes(self._held), bytearray()
        yield held
        del held
        patience.reschedule(None)
        try:
            async for chunk in self._chunks:
                patience.reschedule(loop.time() + ANSWER_SECONDS)
                yield chunk
                patience.reschedule(None)
        except (Problem, ClientDisconnect) as failure:
            self.failure = failure
            raise
        patience.reschedule(loop.time() + ANSWER_SECONDS)


def _try_again() -> Problem:
    detail = "The resume cannot be kept or read right now. Nothing was kept: please try again in a moment."
    return Problem(ProblemType.UNAVAILABLE, detail, retry_after_seconds=RETRY_AFTER_SECONDS)
