"""Resumes on their way into the storage. Short ones share a request while others are under way; long ones are streamed.

A group costs both ends little more than a single one (docs/decisions/0025-short-resumes-in-groups.md).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import structlog
from starlette.requests import ClientDisconnect
from structlog.contextvars import bind_contextvars, bound_contextvars, clear_contextvars

from services.api.storage_hop import ANSWER_SECONDS, TROUBLES, StorageHop, try_again
from shared import blob_group
from shared.blob_group import ShortBlob
from shared.grouping import Grouping
from shared.observe import CORRELATION_HEADER, correlation_id
from shared.problems import Problem

SHORT_MAX_BYTES: Final = blob_group.BLOB_MAX_BYTES
"""Up to this size a resume is held until all of it is there."""

PATIENCE_SECONDS: Final = 0.02
"""A local disk has a group by then. A bucket has not, and several requests of its are under way."""

ALONE_SECONDS: Final = 60.0
"""For how long a storage that refused a group is sent each by itself: it may be of an earlier version."""

_EVERYBODYS = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE})
"""Answers to a group that each of it would get by itself. Any other refusal may be the group's own."""

log = structlog.get_logger()


@dataclass(frozen=True)
class StoredBlob:
    """What the storage says it keeps."""

    size_bytes: int
    sha256: str


class StoragePuts:
    """Keeps blobs by that hop."""

    def __init__(self, hop: StorageHop) -> None:
        self._hop = hop
        self._short: Grouping[ShortBlob, StoredBlob | Problem] = Grouping(
            self._put_short,
            largest=blob_group.GROUP_MAX_BYTES,
            weigh=blob_group.weight,
            patience_seconds=PATIENCE_SECONDS,
        )
        self._alone_until = 0.0

    async def put(self, blob_id: str, chunks: AsyncIterator[bytes], disposition: str) -> StoredBlob:
        """Keep a blob; returns when it is durable. If `chunks` raises, nothing is kept and its error comes out.

        A short one goes in one piece when all of it is there, which is cheaper for both ends; a long one is streamed.
        That cannot be said twice, so the storage says first whether it goes by our token (`Expect: 100-continue`).
        """
        held = bytearray()
        async for chunk in chunks:
            held += chunk
            if len(held) > SHORT_MAX_BYTES:
                return await self._put_long(blob_id, _Watched(held, chunks), disposition)
        short = ShortBlob(blob_id, bytes(held), disposition, correlation_id())
        if self._hop.is_traced or time.monotonic() < self._alone_until:
            return await self._put_one(short)
        outcome = await self._short.add(short)
        if isinstance(outcome, Problem):
            raise outcome
        return outcome

    async def _put_short(self, blobs: Sequence[ShortBlob]) -> Sequence[StoredBlob | Problem]:
        """For whoever came together: what becomes of one is no other's business."""
        clear_contextvars()  # they are of whose request began this
        if len(blobs) == 1:
            return [await self._outcome(blobs[0])]
        try:
            return await self._put_group(blobs)
        except _GroupRefused:
            return await asyncio.gather(*map(self._outcome, blobs))
        except Problem:
            return [try_again() for _ in blobs]  # one each: who answers with it may add to it

    async def _outcome(self, blob: ShortBlob) -> StoredBlob | Problem:
        bind_contextvars(correlation_id=blob.correlation_id)  # of this one's context, if it is one of several
        try:
            return await self._put_one(blob)
        except Problem as problem:
            return problem

    async def _put_one(self, blob: ShortBlob) -> StoredBlob:
        headers = {"Content-Disposition": blob.disposition}
        if blob.correlation_id:
            headers[CORRELATION_HEADER] = blob.correlation_id
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                self._hop.asked("PUT", self._hop.blob(blob.id), data=lambda: blob.body, headers=headers) as response,
            ):
                return _stored(await self._hop.expect(response, HTTPStatus.CREATED))
        except TROUBLES as error:
            raise self._hop.unavailable("put", error) from error

    async def _put_group(self, blobs: Sequence[ShortBlob]) -> Sequence[StoredBlob | Problem]:
        """Raises `Problem` for what each would be told by itself, `_GroupRefused` for anything else."""
        data, headers = partial(blob_group.written, blobs), {"Content-Type": blob_group.MEDIA_TYPE}
        whose = [blob.correlation_id for blob in blobs]
        with bound_contextvars(blobs=[blob.id for blob in blobs], correlation_ids=whose):
            try:
                async with (
                    asyncio.timeout(ANSWER_SECONDS),
                    self._hop.asked("PUT", f"{self._hop.url}/blobs", data=data, headers=headers) as response,
                ):
                    if response.status != HTTPStatus.OK and response.status not in _EVERYBODYS:
                        raise self._refused(response.status)
                    outcomes = await self._hop.expect(response, HTTPStatus.OK)
                    if [one["id"] for one in outcomes] != [blob.id for blob in blobs]:
                        raise self._refused(response.status)
            except TROUBLES as error:
                raise self._hop.unavailable("put of a group", error) from error
        return [_told(one) for one in outcomes]

    def _refused(self, status: int) -> "_GroupRefused":
        log.warning("storage takes no groups, each resume goes by itself", status=status, seconds=ALONE_SECONDS)
        self._alone_until = time.monotonic() + ALONE_SECONDS
        return _GroupRefused()

    async def _put_long(self, blob_id: str, body: "_Watched", disposition: str) -> StoredBlob:
        headers = {"Content-Disposition": disposition}
        try:
            async with asyncio.timeout(ANSWER_SECONDS) as patience:
                data = partial(body.chunks, patience)
                async with self._hop.asked(
                    "PUT", self._hop.blob(blob_id), data=data, expect100=True, headers=headers
                ) as response:
                    return _stored(await self._hop.expect(response, HTTPStatus.CREATED))
        except TROUBLES as error:
            if body.failure is not None:
                raise body.failure from None
            raise self._hop.unavailable("put", error) from error


class _GroupRefused(Exception):  # noqa: N818
    """Each of the group is to be sent by itself."""


def _told(outcome: Mapping[str, Any]) -> StoredBlob | Problem:
    if "problem" not in outcome:
        return _stored(outcome)
    log.error("storage refused", blob=outcome["id"], said=outcome["problem"])
    return try_again()


def _stored(receipt: Mapping[str, Any]) -> StoredBlob:
    return StoredBlob(receipt["size_bytes"], receipt["sha256"])


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
