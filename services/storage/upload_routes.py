"""The one door of the storage that strangers may reach: `/uploads`, with a ticket, in the words of tus 1.0.0 (core).

https://tus.io/protocols/resumable-upload: HEAD tells how many bytes have come, PATCH adds those from there on. An
upload begins with the api's ticket. One thing of tus is left out: a method is what it is, not `X-HTTP-Method-Override`.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from services.storage.blobs import BlobMissing, BlobStore
from services.storage.routes import Guard, bearer_token, log_more, receive, too_large, unauthenticated
from services.storage.uploads import Uploads
from shared.direct import ask_directly
from shared.ids import is_id
from shared.problems import Problem, ProblemType
from shared.tickets import Ticket, Tickets
from shared.tokens import LEEWAY_SECONDS, TokenRefused
from shared.web import announce_upload

TUS = "1.0.0"
VERSION_HEADER = "Tus-Resumable"
CONTENT_TYPE = "application/offset+octet-stream"

CORS_METHODS = ("HEAD", "PATCH")
CORS_READ = ("Authorization", "Content-Type", VERSION_HEADER, "Upload-Offset")
CORS_SHOWN = (VERSION_HEADER, "Tus-Version", "Upload-Offset", "Upload-Length", "Retry-After")

SILENCE_SECONDS = 10.0
"""How long a sender may say nothing. A connection that broke without a word holds its upload for no longer."""

SLOWEST_BYTES_PER_SECOND = 8 * 1024
"""What must come on the average, after the first silence: a trickle must not hold one of the places for long."""

_OFFSET = re.compile(r"[0-9]{1,18}")


class UploadRoutes:
    """`/uploads/{blob_id}` for senders with a ticket, and the receipt of what they sent, for the api."""

    def __init__(self, blobs: BlobStore, uploads: Uploads, tickets: Tickets, *, max_bytes: int) -> None:
        self._blobs = blobs
        self._uploads = uploads
        self._tickets = tickets
        self._max_bytes = max_bytes

    def add_to(self, app: FastAPI, guard: Guard) -> None:
        """Open these doors. None of them is a route of FastAPI's but the api's own, which `guard` keeps."""
        path = "/uploads/{blob_id}"
        for method, door in (("HEAD", self.head), ("PATCH", self.patch)):
            route = Route(path, _speaking_tus(door), methods=[method])
            app.router.routes.append(route)
            ask_directly(app, method, route)
        app.router.routes.append(Route(path, self.options, methods=["OPTIONS"]))
        app.add_api_route("/blobs/{blob_id}/receipt", self.receipt, methods=["GET"], dependencies=[Depends(guard)])

    async def options(self, _request: Request) -> Response:
        """What is spoken here, for who asks first."""
        headers = {"Tus-Version": TUS, "Tus-Max-Size": str(self._max_bytes)}
        return Response(status_code=204, headers=headers)

    async def head(self, request: Request) -> Response:
        """How many bytes have come."""
        ticket = self._ticket(request)
        received = await self._uploads.offset(ticket)
        return Response(headers={"Upload-Offset": str(received), "Upload-Length": str(ticket.size_bytes)})

    async def patch(self, request: Request) -> Response:
        """Take in more of them, durably when they are all."""
        ticket = self._ticket(request)
        offset = _offset(request)
        self._refuse_by_headers(request, ticket, offset)
        announce_upload(request.scope)
        body = _Body(request, ticket)
        received = await self._uploads.append(ticket, offset, body.chunks())
        log_more(request, blob=ticket.blob_id, received_bytes=received, size_bytes=ticket.size_bytes)
        if body.failure is not None:
            raise body.failure
        return Response(status_code=204, headers={"Upload-Offset": str(received)})

    async def receipt(self, blob_id: str) -> Response:
        """What is kept under this id, durably: size and hash of the bytes as they are read now."""
        if not is_id(blob_id):
            raise BlobMissing
        return JSONResponse(vars(await self._blobs.receipt(blob_id)))

    def _ticket(self, request: Request) -> Ticket:
        try:
            ticket = self._tickets.read(bearer_token(request))
        except TokenRefused as error:
            log_more(request, reason=str(error))
            raise _no_ticket() from None
        if ticket.blob_id != request.path_params["blob_id"]:
            raise _no_ticket()
        return ticket

    def _refuse_by_headers(self, request: Request, ticket: Ticket, offset: int) -> None:
        if request.headers.get("Content-Type", "") != CONTENT_TYPE:
            raise Problem(ProblemType.UNSUPPORTED_MEDIA_TYPE, f"Send the bytes as {CONTENT_TYPE}.")
        if "Content-Encoding" in request.headers:
            raise Problem(ProblemType.UNSUPPORTED_MEDIA_TYPE, "Send the bytes as they are: nothing is unpacked here.")
        if ticket.size_bytes > self._max_bytes:
            raise too_large(self._max_bytes)
        declared = request.headers.get("Content-Length", "0")
        if declared.isdecimal() and offset + int(declared) > ticket.size_bytes:
            raise too_large(ticket.size_bytes)


class _Body:
    """The body as it arrives. It ends where its sender does; why is in `failure` then, and what has come is kept."""

    def __init__(self, request: Request, ticket: Ticket) -> None:
        self._request = request
        self._seconds_left = ticket.expires_at.timestamp() + LEEWAY_SECONDS - time.time()
        self.failure: Problem | ClientDisconnect | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        received_bytes = 0
        more = True
        while more:
            slowest = began_at + SILENCE_SECONDS + received_bytes / SLOWEST_BYTES_PER_SECOND
            deadline = min(loop.time() + SILENCE_SECONDS, slowest, began_at + self._seconds_left)
            try:
                message = await receive(self._request, deadline, _too_slow)
            except (Problem, ClientDisconnect) as failure:
                self.failure = failure
                return
            received_bytes += len(message.get("body", b""))
            more = message.get("more_body", False)
            yield message.get("body", b"")


def _speaking_tus(door: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The door, for those who speak the version that it speaks. It says so with every answer, refusals as well."""

    async def spoken(request: Request) -> Response:
        try:
            _refuse_other_versions(request)
            response = await door(request)
        except Problem as problem:
            problem.headers |= {VERSION_HEADER: TUS, "Connection": "close"}  # the body is not read to its end
            raise
        response.headers[VERSION_HEADER] = TUS
        return response

    return spoken


def _refuse_other_versions(request: Request) -> None:
    if request.headers.get(VERSION_HEADER) != TUS:
        detail = f"Say {VERSION_HEADER}: {TUS}, the version of the protocol that is spoken here."
        raise Problem(ProblemType.PRECONDITION_FAILED, detail, headers={"Tus-Version": TUS})


def _offset(request: Request) -> int:
    said = request.headers.getlist("Upload-Offset")
    if len(said) != 1 or not _OFFSET.fullmatch(said[0]):
        raise Problem(ProblemType.MALFORMED_REQUEST, "Say with Upload-Offset, once, which byte these bytes begin at.")
    return int(said[0])


def _no_ticket() -> Problem:
    detail = "This is not a ticket for this upload, or it has expired: get a new one (POST /leads/uploads)."
    return unauthenticated('Bearer error="invalid_token"', detail)


def _too_slow() -> Problem:
    detail = (
        f"The bytes come too slowly: {SLOWEST_BYTES_PER_SECOND // 1024} KiB a second at least, without a silence of "
        f"{SILENCE_SECONDS:.0f} seconds, before the ticket expires. What has come is kept: go on after it."
    )
    return Problem(ProblemType.REQUEST_TIMEOUT, detail)
