"""A resume on its way to the staff: the storage's stream handed through, with headers that keep it a download."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from aiohttp import ClientResponse
from fastapi.responses import Response, StreamingResponse

from services.api.storage_client import StorageClient
from services.api.storage_hop import ANSWER_SECONDS, READ_BYTES
from services.api.store import Resume
from shared.disposition import attachment
from shared.problems import Problem, ProblemType

SHORT_BYTES = 128 * 1024
_PASSED_ON = ("Content-Range", "Content-Length", "Accept-Ranges")


async def download(storage: StorageClient, resume: Resume, range_header: str | None) -> Response:
    """The resume, whole or in part. A short one is there when the answer begins: it is whole, or a 503.

    Raises `Problem` 404, 416, 503.
    """
    async with AsyncExitStack() as stack:
        blob = await stack.enter_async_context(storage.get(resume.blob_id, range_header))
        headers = {name: blob.headers[name] for name in _PASSED_ON if name in blob.headers}
        if blob.status in (404, 416):
            raise _refusal(blob.status, headers.get("Content-Range", ""))
        headers |= _safe_headers(resume)
        if blob.content_length is not None and blob.content_length <= SHORT_BYTES:
            async with asyncio.timeout(ANSWER_SECONDS):
                body = await blob.read()
            return Response(body, blob.status, headers, resume.content_type)
        chunks = _chunks(blob, stack.pop_all())
        return StreamingResponse(chunks, blob.status, headers, resume.content_type)


async def _chunks(blob: ClientResponse, stack: AsyncExitStack) -> AsyncIterator[bytes]:
    async with stack:
        async for chunk in blob.content.iter_chunked(READ_BYTES):
            yield chunk


def _safe_headers(resume: Resume) -> dict[str, str]:
    """A stranger's file is saved, never shown: not as a page of ours, not with our cookies (OWASP ASVS 5.4)."""
    return {
        "Content-Disposition": attachment(resume.filename),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "ETag": f'"{resume.sha256}"',
    }


def _refusal(status: int, content_range: str) -> Problem:
    if status == 404:  # noqa: PLR2004
        detail = "The storage does not have this resume: please tell whoever runs Leads."
        return Problem(ProblemType.NOT_FOUND, detail)
    detail = "The resume does not have the bytes that were asked for."
    return Problem(ProblemType.RANGE_NOT_SATISFIABLE, detail, headers={"Content-Range": content_range})
