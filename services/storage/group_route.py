"""`PUT /blobs`: several short blobs in one request, which costs little more than one. The form: `shared.blob_group`."""

import asyncio
from dataclasses import replace

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.routing import Route

from services.storage.blobs import BlobStore
from services.storage.routes import Guard, attached, log_more, receive, too_large, too_slow
from shared import blob_group
from shared.direct import ask_directly
from shared.problems import Problem, ProblemType
from shared.web import BODY_DEADLINE_SECONDS, announce_upload


class GroupRoute:
    """The door for groups. The caller is who may call `PUT /blobs/{id}`."""

    def __init__(self, blobs: BlobStore, guard: Guard, *, max_bytes: int) -> None:
        self._blobs = blobs
        self._guard = guard
        self._max_bytes = max_bytes

    def add_to(self, app: FastAPI) -> None:
        """Open this door. It asks the guard itself: it is no route of FastAPI's."""
        route = Route("/blobs", self.put_group, methods=["PUT"])
        app.router.routes.append(route)
        ask_directly(app, "PUT", route)

    async def put_group(self, request: Request) -> Response:
        """Keep all of the group, durably, before the answer."""
        await self._guard(request)
        announce_upload(request.scope)
        try:
            given = blob_group.read(await _whole(request))
        except ValueError as error:
            raise Problem(ProblemType.MALFORMED_REQUEST, f"This is no group of blobs: {error}.") from None
        blobs = [replace(blob, disposition=attached(blob.disposition)) for blob in given]
        if any(len(blob.body) > self._max_bytes for blob in blobs):
            raise too_large(self._max_bytes)
        receipts = await self._blobs.put_group(blobs)
        log_more(request, blobs={blob.id: blob.correlation_id for blob in blobs})
        return JSONResponse([vars(receipt) for receipt in receipts], status_code=201)


async def _whole(request: Request) -> bytearray:
    """The body, held. Raises when it is too long, too slow, or its sender has gone away."""
    deadline = asyncio.get_running_loop().time() + BODY_DEADLINE_SECONDS
    held, more = bytearray(), True
    while more:
        message = await receive(request, deadline, too_slow)
        held += message["body"]
        if len(held) > blob_group.GROUP_MAX_BYTES:
            raise too_large(blob_group.GROUP_MAX_BYTES)
        more = message["more_body"]
    return held
