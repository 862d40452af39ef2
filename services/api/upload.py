"""One upload on its way in: the body is read once, counted and timed while it arrives, never spooled."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from services.api.applicants import Applicant
from services.api.multipart import FormReader, UploadRules, too_large
from services.api.places import Place
from services.api.resumes import ResumeKind, inspect
from shared.problems import Problem, ProblemType
from shared.web import BODY_DEADLINE_SECONDS, announce_upload

DRAIN_MAX_BYTES = 1024 * 1024
"""Up to this size the rest of a refused body may arrive and the connection is kept: cheaper than a new one."""

START_SECONDS = 10.0
SLOWEST_BYTES_PER_SECOND = 8 * 1024
"""So many bytes buy a second beyond the start, up to the deadline: a trickle must not hold a place for long.

A link that is slower than this could not send a resume of half a MiB within the deadline anyway.
"""


class Upload:
    """The upload of one request. Read it in order: `start`, then `resume_chunks` to its end, then the properties."""

    _place: Place

    def __init__(self, request: Request, rules: UploadRules) -> None:
        announce_upload(request.scope)
        self._request = request
        self._rules = rules
        self._received_bytes = 0
        self._refuse_by_headers()
        self._form = FormReader(request.headers.get("content-type"), rules)
        self._began_at = 0.0
        """When the body was first asked for (the loop's time). What it waits for a place counts, too: many who trickle
        would else hold out for each other."""
        self._is_open = True
        """Whether more of the body is to come."""
        self._ready: list[bytes] = []
        self._sha256 = hashlib.sha256()
        self._applicant: Applicant | None = None

    async def start(self, place: Place) -> None:
        """Read up to the resume's first bytes, which show whether it is of a kind that is accepted.

        `place` is what the upload holds while it moves.

        Raises `Problem`: 400 malformed, 408 too slow, 413 too large, 415 another kind, 422 fields at fault.
        """
        self._place = place
        while not self._ready and await self._read_on():
            pass

    async def resume_chunks(self) -> AsyncIterator[bytes]:
        """The resume's bytes as they come. Ends only when the whole form has been read and found good.

        Raises what `start` raises: then the storage has not seen the end and keeps nothing.
        """
        while True:
            ready, self._ready = self._ready, []
            for chunk in ready:
                yield chunk
            if not await self._read_on():
                return

    @property
    def applicant(self) -> Applicant:
        """Who applies. To be asked after the last chunk."""
        assert self._applicant is not None
        return self._applicant

    @property
    def filename(self) -> str:
        """The file's name as it may be shown: metadata, never a path."""
        return self._form.filename

    @property
    def kind(self) -> ResumeKind:
        """What the resume is, by name and content."""
        assert self._form.kind is not None
        return self._form.kind

    @property
    def size_bytes(self) -> int:
        """How long the resume is."""
        return self._form.resume_bytes

    @property
    def sha256(self) -> str:
        """Hash of the resume as it was received (hex)."""
        return self._sha256.hexdigest()

    async def _read_on(self) -> bool:
        """Take in the next piece of the body; False when that was its end and all is well."""
        chunk = await self._next_chunk()
        if chunk is None:
            self._applicant = self._applicant or self._form.finish()
            return False
        for piece in self._form.feed(chunk):
            await self._inspect(piece)
            self._ready.append(piece)
        return True

    async def _inspect(self, piece: bytes) -> None:
        self._sha256.update(piece)
        assert self._form.inspector is not None
        await inspect(self._form.inspector, piece)

    async def _next_chunk(self) -> bytes | None:
        """The next bytes of the body, None at its end. Raises `Problem` 408, 413."""
        while self._is_open:
            message = await self._received()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self._is_open = message.get("more_body", False)
            chunk: bytes = message.get("body", b"")
            self._received_bytes += len(chunk)
            if self._received_bytes > self._rules.body_max_bytes:
                raise too_large(self._rules)
            if chunk:
                return chunk
        return None

    async def _received(self) -> Message:
        """The next part of the request. The place is not held while its sender takes long."""
        self._began_at = self._began_at or asyncio.get_running_loop().time()
        try:
            message = await self._place.lent(self._request.receive(), self._began_at + self._allowed_seconds())
        except TimeoutError:
            raise _too_slow() from None
        await self._place.take()
        return message

    def _allowed_seconds(self) -> float:
        """How long after its begin the body may take, in the light of what has come."""
        return min(START_SECONDS + self._received_bytes / SLOWEST_BYTES_PER_SECOND, BODY_DEADLINE_SECONDS)

    def _refuse_by_headers(self) -> None:
        """What the headers alone give away, before a byte of the body is read."""
        refuse_odd_headers(self._request)
        if _declared_bytes(self._request) > self._rules.body_max_bytes:
            raise too_large(self._rules)


def refuse_odd_headers(request: Request) -> None:
    """Raises `Problem` 400 for two types of one body, 415 for a compressed one."""
    if len(request.headers.getlist("content-type")) > 1:
        raise Problem(ProblemType.MALFORMED_REQUEST, "The request must have one Content-Type.")
    if any(coding.lower() != "identity" for coding in request.headers.getlist("content-encoding")):
        detail = "Send the form as it is: compressed requests are not read."
        raise Problem(ProblemType.UNSUPPORTED_MEDIA_TYPE, detail)


def keep_connection(request: Request) -> bool:
    """Whether what a refused request still has to send is little enough to let it arrive."""
    return "content-length" in request.headers and _declared_bytes(request) <= DRAIN_MAX_BYTES


def _declared_bytes(request: Request) -> int:
    length = request.headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def _too_slow() -> Problem:
    detail = (
        f"The form comes too slowly: it must arrive within {BODY_DEADLINE_SECONDS:.0f} seconds, "
        f"with at least {SLOWEST_BYTES_PER_SECOND // 1024} KiB a second after the first {START_SECONDS:.0f}."
    )
    return Problem(ProblemType.REQUEST_TIMEOUT, detail, headers={"Connection": "close"})
