"""The doors of the storage room. They check the token, count and time the body, read ranges, and call one verb.

Only the api calls here; what strangers may reach is in `upload_routes`. Every path under `/blobs` wants its service
token; an id that is no canonical UUID is a 404 before anything touches the disk, so no path is ever made from what a
caller sent.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import AfterValidator, AwareDatetime, BaseModel
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Message

from services.storage.blobs import BlobFacts, BlobMissing, BlobStore
from shared.direct import ask_directly
from shared.disposition import ATTACHMENT
from shared.ids import is_id
from shared.problems import FieldError, Problem, ProblemType, invalid_fields
from shared.tokens import CLOCK_HEADER, TokenRefused, Tokens
from shared.web import BODY_DEADLINE_SECONDS, announce_upload

PAGE_MAX = 1000

_WHO_IS_ANSWERED = "This service answers those who carry its service token."

_RANGE = re.compile(r"bytes=(?:([0-9]{1,100})-([0-9]{0,100})|-([0-9]{1,100}))", re.IGNORECASE)


_NAMED_ATTACHMENT = re.compile(r"attachment; filename\*=UTF-8''[A-Za-z0-9._~%-]{1,1000}")
"""The one form that the api sends (RFC 8187): percent-encoded, so that it can hold nothing else."""


def _an_id(text: str) -> str:
    if not is_id(text):
        raise ValueError("This is not an id.")
    return text


class Guard:
    """Lets those in who carry a service token."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    async def __call__(self, request: Request) -> None:
        """Raises the 401 of RFC 6750, section 3."""
        try:
            self._tokens.verify(bearer_token(request))
        except TokenRefused as error:
            log_more(request, reason=str(error))
            raise unauthenticated('Bearer error="invalid_token"') from None


def bearer_token(request: Request) -> str:
    """The token that the request carries (RFC 6750, section 2.1). Raises the 401 of one that carries none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise unauthenticated("Bearer")
    return token


class NewestLead(BaseModel):
    """A note of the api's."""

    id: Annotated[str, AfterValidator(_an_id)]


class BlobRoutes:
    """`/blobs`: PUT, GET, HEAD, DELETE of one, and the list of all. `/newest-lead`: a note that belongs with them."""

    def __init__(self, blobs: BlobStore, guard: Guard, *, max_bytes: int) -> None:
        self._blobs = blobs
        self._guard = guard
        self._max_bytes = max_bytes

    def add_to(self, app: FastAPI) -> None:
        """Open these doors. PUT and GET of a blob ask the guard themselves: they are no routes of FastAPI's."""
        for method, endpoint in (("PUT", self.put), ("GET", self.get)):
            route = Route("/blobs/{blob_id}", endpoint, methods=[method])
            route.methods = {method}  # HEAD has a route of its own, which Starlette would have GET's answer
            app.router.routes.append(route)
            ask_directly(app, method, route)
        router = APIRouter(prefix="/blobs", dependencies=[Depends(self._guard)])
        router.add_api_route("", self.page, methods=["GET"])
        router.add_api_route("/{blob_id}", self.head, methods=["HEAD"])
        router.add_api_route("/{blob_id}/link", self.link, methods=["GET"])
        router.add_api_route("/{blob_id}", self.delete, methods=["DELETE"])
        app.include_router(router)
        note = APIRouter(prefix="/newest-lead", dependencies=[Depends(self._guard)])
        note.add_api_route("", self.newest_lead, methods=["GET"])
        note.add_api_route("", self.note_newest_lead, methods=["PUT"])
        app.include_router(note)

    async def newest_lead(self) -> Response:
        """The id that was noted last, or null."""
        return JSONResponse({"id": await self._blobs.newest_lead()})

    async def note_newest_lead(self, note: NewestLead) -> Response:
        """Keep the id of the newest lead beside the blobs, so that an older database beside them is known as one."""
        await self._blobs.note_newest_lead(note.id)
        return Response(status_code=204)

    async def put(self, request: Request) -> Response:
        """Keep the body, durably, before the answer."""
        await self._guard(request)
        blob_id = request.path_params["blob_id"]
        _refuse_unless_id(blob_id)
        announce_upload(request.scope)
        receipt = await self._blobs.put(
            blob_id, self._body(request), attached(request.headers.get("Content-Disposition", ""))
        )
        log_more(request, blob=blob_id, size_bytes=receipt.size_bytes)
        return JSONResponse(vars(receipt), status_code=201)

    async def get(self, request: Request) -> Response:
        """The bytes, or the one range of them that was asked for."""
        await self._guard(request)
        blob_id = request.path_params["blob_id"]
        _refuse_unless_id(blob_id)
        facts, body = await self._blobs.look_into(blob_id)
        asked = _asked_range(request, facts)
        start, stop = asked or (0, facts.size_bytes)
        headers = _headers(facts, stop - start)
        if asked:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{facts.size_bytes}"
        status, kind = 206 if asked else 200, "application/octet-stream"
        if body is not None:
            return Response(body[start:stop], status, headers, kind)
        chunks = self._blobs.read(blob_id, start, stop)
        first = await anext(chunks)  # a store that is away is told of by the answer, not by a cut in it
        if len(first) == stop - start:
            await chunks.aclose()
            return Response(first, status, headers, kind)
        return StreamingResponse(_all_of(first, chunks), status, headers, kind)

    async def head(self, blob_id: str) -> Response:
        """What GET would say, without a range: those are for GET alone (RFC 9110, section 14.2)."""
        _refuse_unless_id(blob_id)
        facts = await self._blobs.facts(blob_id)
        return Response(headers=_headers(facts, facts.size_bytes), media_type="application/octet-stream")

    async def link(self, blob_id: str) -> Response:
        """Where the bytes can be fetched without us for a minute, or null: then GET them here."""
        _refuse_unless_id(blob_id)
        return JSONResponse({"url": await self._blobs.link(blob_id)})

    async def delete(self, blob_id: str) -> Response:
        """Gone, whether or not it was there."""
        _refuse_unless_id(blob_id)
        await self._blobs.delete(blob_id)
        return Response(status_code=204)

    async def page(
        self,
        stored_before: AwareDatetime,
        after: str = "",
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_MAX,
    ) -> Response:
        """A page of the blobs stored before an instant, in the order of their ids. Go on until `next` is null.

        The instant must be given: whoever clears away by this list would else find bodies whose lead is being made.
        """
        if after and not is_id(after):
            raise invalid_fields(FieldError("after", "This is not an id."))
        page = await self._blobs.page(stored_before=stored_before, after=after, limit=limit)
        return JSONResponse({"blobs": [_row(blob) for blob in page.blobs], "next": page.next})

    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises when it is empty, too long, too slow, or its sender has gone away."""
        deadline = asyncio.get_running_loop().time() + BODY_DEADLINE_SECONDS
        left_bytes = self._max_bytes
        more = True
        while more:
            message = await receive(request, deadline, too_slow)
            left_bytes -= len(message.get("body", b""))
            if left_bytes < 0:
                raise too_large(self._max_bytes)
            yield message["body"]
            more = message["more_body"]
        if left_bytes == self._max_bytes:
            raise Problem(ProblemType.MALFORMED_REQUEST, "There is nothing in this body to keep.")


async def receive(request: Request, deadline: float, too_slow: Callable[[], Problem]) -> Message:
    """The next piece of a body. Raises `too_slow` at the deadline (event loop's time), `ClientDisconnect`."""
    try:
        async with asyncio.timeout_at(deadline):
            message = await request.receive()
    except TimeoutError:
        raise too_slow() from None
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message


async def _all_of(first: bytes, others: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in others:
        yield chunk


def attached(said: str) -> str:
    """What the file may be saved as, as the caller says it, or an attachment without a name."""
    return said if _NAMED_ATTACHMENT.fullmatch(said) else ATTACHMENT


def _asked_range(request: Request, facts: BlobFacts) -> tuple[int, int] | None:
    """The one range to send, as start and stop; `None` for the whole (RFC 9110, sections 13.1.5 and 14.2).

    Several ranges, or what is no range at all, may be ignored and is. Raises the 416 of section 15.5.17.
    """
    asked = _RANGE.fullmatch(",".join(request.headers.getlist("Range")))
    if asked is None or request.headers.get("If-Range", _etag(facts)) != _etag(facts):
        return None
    first, last, suffix = asked.groups()
    size = facts.size_bytes
    if suffix is not None:
        start, stop = max(0, size - int(suffix)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= stop:
        raise Problem(
            ProblemType.RANGE_NOT_SATISFIABLE,
            f"This file has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, stop


def _headers(facts: BlobFacts, length_bytes: int) -> dict[str, str]:
    return {"Content-Length": str(length_bytes), "ETag": _etag(facts), "Accept-Ranges": "bytes"}


def _etag(facts: BlobFacts) -> str:
    """Strong, and simply the id: what is stored under an id never changes."""
    return f'"{facts.id}"'


def _row(blob: BlobFacts) -> dict[str, str | int]:
    return {"id": blob.id, "size_bytes": blob.size_bytes, "stored_at": blob.stored_at.isoformat()}


def _refuse_unless_id(blob_id: str) -> None:
    if not is_id(blob_id):
        raise BlobMissing


def log_more(request: Request, **more: str | int) -> None:
    """For the one line that the front hall logs of this request."""
    request.scope["state"].setdefault("log", {}).update(more)


def unauthenticated(challenge: str, detail: str = _WHO_IS_ANSWERED) -> Problem:
    """The 401 with that challenge."""
    headers = {"WWW-Authenticate": challenge, CLOCK_HEADER: f"{time.time():.3f}"}
    return Problem(ProblemType.UNAUTHENTICATED, detail, headers=headers)


def too_large(max_bytes: int) -> Problem:
    """The 413 that names the limit."""
    detail = f"A resume may hold at most {max_bytes} bytes."
    return Problem(ProblemType.BODY_TOO_LARGE, detail, headers={"Connection": "close"})


def too_slow() -> Problem:
    """The 408 of a body that does not end in time."""
    detail = f"The whole resume must arrive within {BODY_DEADLINE_SECONDS:.0f} seconds."
    return Problem(ProblemType.REQUEST_TIMEOUT, detail, headers={"Connection": "close"})
