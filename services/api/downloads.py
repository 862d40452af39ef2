"""A resume on its way to the staff: the storage's stream handed through, with headers that keep it a download."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

from services.api.storage_client import StorageClient
from services.api.tables import Lead
from shared.disposition import attachment
from shared.problems import Problem, ProblemType

CHUNK_BYTES = 64 * 1024
_PASSED_ON = ("Content-Range", "Content-Length", "Accept-Ranges")


@dataclass(frozen=True)
class Download:
    """An open stream. Whoever takes it reads `chunks` to its end, or closes it."""

    status: int
    headers: dict[str, str]
    chunks: AsyncIterator[bytes]


async def open_download(storage: StorageClient, lead: Lead, range_header: str | None) -> Download:
    """The resume, whole or in part. Raises `Problem` 404, 416, 503."""
    stack = AsyncExitStack()
    blob = await stack.enter_async_context(storage.get(lead.resume_path, range_header))
    passed_on = {name: blob.headers[name] for name in _PASSED_ON if name in blob.headers}
    if blob.status in (404, 416):
        await stack.aclose()
        raise _refusal(blob.status, passed_on.get("Content-Range", ""))

    async def chunks() -> AsyncIterator[bytes]:
        async with stack:
            async for chunk in blob.content.iter_chunked(CHUNK_BYTES):
                yield chunk

    return Download(blob.status, {**passed_on, **_safe_headers(lead)}, chunks())


def _safe_headers(lead: Lead) -> dict[str, str]:
    """A stranger's file is saved, never shown: not as a page of ours, not with our cookies (OWASP ASVS 5.4)."""
    return {
        "Content-Disposition": attachment(lead.resume_filename),
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "ETag": f'"{lead.resume_sha256}"',
    }


def _refusal(status: int, content_range: str) -> Problem:
    if status == 404:  # noqa: PLR2004
        detail = "The storage does not have this resume: please tell whoever runs Leads."
        return Problem(ProblemType.NOT_FOUND, detail)
    detail = "The resume does not have the bytes that were asked for."
    return Problem(ProblemType.RANGE_NOT_SATISFIABLE, detail, headers={"Content-Range": content_range})
