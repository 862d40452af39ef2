"""One kept-alive HTTP hop to the storage: the api's token, the storage's clock, and one answer to every fault: 503."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, Self

import aiohttp
import structlog

from shared.observe import CORRELATION_HEADER, correlation_id
from shared.problems import Problem, ProblemType
from shared.repeats import Repeats
from shared.tokens import CLOCK_HEADER, LEEWAY_SECONDS, Tokens
from shared.tracing.client import client_spans

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 4.0
"""How long the storage may take to accept a piece, or to answer."""

READ_BYTES = 256 * 1024
"""What a body is read in."""

TOKEN_SECONDS = 120
RETRY_AFTER_SECONDS = 5

TROUBLES: Final = (aiohttp.ClientError, TimeoutError, OSError)
"""What a hop raises that fails: `unavailable` makes a `Problem` of it."""

log = structlog.get_logger()


class StorageHop:
    """Requests to the storage at `url`."""

    _session: aiohttp.ClientSession

    def __init__(self, url: str, tokens: Tokens) -> None:
        self.url = url
        self.is_traced = False
        """Whether each request has a span of its own, under that of whom it is made for."""
        self._tokens = tokens
        self._token = ""
        self._token_until = 0.0
        self._ahead_seconds = 0.0
        """How far the storage's clock is ahead of ours, once that has mattered."""
        self._is_refused = False
        self._repeats = Repeats()

    async def __aenter__(self) -> Self:
        """Open the kept-alive session. It has no total timeout: an upload takes as long as its sender does."""
        spans = client_spans(propagate=True)
        self.is_traced = bool(spans)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=READ_BYTES,
            trace_configs=spans,
        )
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()

    async def check(self) -> None:
        """Raises when the storage is not ready, or has refused our token the last time."""
        async with self._session.get(f"{self.url}/readyz") as response:
            if response.status != 200:  # noqa: PLR2004
                raise RuntimeError(f"the storage at {self.url} is not ready")
        if self._is_refused:
            raise RuntimeError(f"the storage at {self.url} has another LEADS_SERVICE_SECRET than this api")

    @asynccontextmanager
    async def asked(self, method: str, url: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """What `answer` gives, and lets go of in the end."""
        async with await self.answer(method, url, **options) as response:
            yield response

    async def answer(
        self,
        method: str,
        url: str,
        *,
        data: Callable[[], Any] = lambda: None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> aiohttp.ClientResponse:
        """The answer, to be let go of. A token that is refused may be one of another time: it is made anew.

        Asked again twice, since clocks may jump at any moment, and others make tokens meanwhile. `data` makes the body.
        """
        repairs_left = 2
        while True:
            sent = {**self._headers(), **(headers or {})}
            response = await self._session.request(method, url, headers=sent, data=data(), **options)
            is_refused = response.status == HTTPStatus.UNAUTHORIZED
            if is_refused:
                self._learn_clock(response)
            if not is_refused or not repairs_left:
                self._is_refused = is_refused
                return response
            repairs_left -= 1
            async with response:
                pass

    async def expect(self, response: aiohttp.ClientResponse, status: int) -> Any:
        """The JSON of an answer with that status, `{}` for an empty one. Raises `Problem` 503 for another."""
        if response.status == status:
            return {} if status == HTTPStatus.NO_CONTENT else await response.json()
        said = (await response.content.read(2000)).decode(errors="replace")
        advice = {"setting": "LEADS_SERVICE_SECRET must be the same for both"} if self._is_refused else {}
        log.error("storage refused", status=response.status, said=said, **advice)
        raise try_again()

    def unavailable(self, verb: str, error: BaseException) -> Problem:
        """One of `TROUBLES`, said in the log, as what the caller is told."""
        log.error("storage unavailable", verb=verb, reason=str(error) or type(error).__name__)
        return try_again()

    def blob(self, blob_id: str) -> str:
        """The URL of one blob."""
        return f"{self.url}/blobs/{blob_id}"

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

    def _headers(self) -> dict[str, str]:
        now = time.monotonic()
        if now > self._token_until:
            self._token = self._tokens.issue("api", TOKEN_SECONDS, ahead_seconds=self._ahead_seconds)
            self._token_until = now + TOKEN_SECONDS / 2
        headers = {"Authorization": f"Bearer {self._token}"}
        if found := correlation_id():
            headers[CORRELATION_HEADER] = found
        return headers


def try_again() -> Problem:
    """The 503 of a storage that does not do its part."""
    detail = "The resume cannot be kept or read right now. Nothing was kept: please try again in a moment."
    return Problem(ProblemType.UNAVAILABLE, detail, retry_after_seconds=RETRY_AFTER_SECONDS)
