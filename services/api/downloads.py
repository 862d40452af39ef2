"""A resume on its way to the staff: the storage's stream handed through, with headers that keep it a download."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http import HTTPStatus

from aiohttp import ClientResponse
from fastapi.responses import Response, StreamingResponse

from services.api.storage_client import StorageClient
from services.api.storage_hop import READ_BYTES
from services.api.store import Resume
from shared.disposition import attachment
from shared.problems import Problem, ProblemType

SHORT_BYTES = 128 * 1024
_PASSED_ON = ("Content-Range", "Content-Length", "Accept-Ranges")


async def download(storage: StorageClient, resume: Resume, range_header: str | None) -> Response:
    """The resume, whole or in part. A short one is there when the answer begins: it is whole, or a 503.

    Raises `Problem` 404, 416, 503.
    """
    if resume.size_bytes <= SHORT_BYTES:
        blob, body = await storage.read(resume.blob_id, range_header)
        return Response(body, blob.status, _headers(blob, resume), resume.content_type)
    async with AsyncExitStack() as stack:
        blob = await stack.enter_async_context(storage.get(resume.blob_id, range_header))
        headers = _headers(blob, resume)
        return StreamingResponse(_chunks(blob, stack.pop_all()), blob.status, headers, resume.content_type)


async def _chunks(blob: ClientResponse, stack: AsyncExitStack) -> AsyncIterator[bytes]:
    async with stack:
        async for chunk in blob.content.iter_chunked(READ_BYTES):
            yield chunk


def _headers(blob: ClientResponse, resume: Resume) -> dict[str, str]:
    """A stranger's file is saved, never shown: not as a page of ours, not with our cookies (OWASP ASVS 5.4).

    Raises `Problem` 404, 416 for what the storage does not have.
    """
    passed_on = {name: blob.headers[name] for name in _PASSED_ON if name in blob.headers}
    if blob.status in (HTTPStatus.NOT_FOUND, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE):
        raise _refusal(blob.status, passed_on.get("Content-Range", ""))
    return {
        **passed_on,
        "Content-Disposition": attachment(resume.filename),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "ETag": f'"{resume.sha256}"',
    }


def _refusal(status: int, content_range: str) -> Problem:
    if status == HTTPStatus.NOT_FOUND:
        detail = "The storage does not have this resume: please tell whoever runs Leads."
        return Problem(ProblemType.NOT_FOUND, detail)
    detail = "The resume does not have the bytes that were asked for."
    return Problem(ProblemType.RANGE_NOT_SATISFIABLE, detail, headers={"Content-Range": content_range})
