"""`PUT /blobs`: several short blobs in one request, which costs little more than one. The form: `shared.blob_group`."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.routing import Route
from structlog.contextvars import bind_contextvars

from services.storage.blobs import BlobStore, Receipt
from services.storage.routes import Guard, attached, receive, too_large, too_slow
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
        if request.headers.get("content-type") != blob_group.MEDIA_TYPE:
            raise Problem(ProblemType.UNSUPPORTED_MEDIA_TYPE, f"Send a group of blobs as {blob_group.MEDIA_TYPE}.")
        announce_upload(request.scope)
        try:
            given = blob_group.read(await _whole(request))
        except ValueError as error:
            raise Problem(ProblemType.MALFORMED_REQUEST, f"This is no group of blobs: {error}.") from None
        blobs = [replace(blob, disposition=attached(blob.disposition)) for blob in given]
        if any(len(blob.body) > self._max_bytes for blob in blobs):
            raise too_large(self._max_bytes)
        # For every line that is logged of it; the ids are those of the requests that these came by.
        bind_contextvars(blobs=[blob.id for blob in blobs], correlation_ids=[blob.correlation_id for blob in blobs])
        outcomes = await self._blobs.put_group(blobs)
        return JSONResponse([_told(blob.id, outcome) for blob, outcome in zip(blobs, outcomes, strict=True)])


def _told(blob_id: str, outcome: Receipt | Problem) -> Mapping[str, object]:
    return vars(outcome) if isinstance(outcome, Receipt) else {"id": blob_id, "problem": json.loads(outcome.body())}


async def _whole(request: Request) -> bytearray:
    """The body, held. Raises when it is too long, too slow, or its sender has gone away."""
    deadline = asyncio.get_running_loop().time() + BODY_DEADLINE_SECONDS
    held, more = bytearray(), True
    while more:
        message = await receive(request, deadline, too_slow)
        held += message["body"]
        if len(held) > blob_group.GROUP_MAX_BYTES:
            detail = f"A group of blobs may hold at most {blob_group.GROUP_MAX_BYTES} bytes."
            raise Problem(ProblemType.BODY_TOO_LARGE, detail, headers={"Connection": "close"})
        more = message["more_body"]
    return held
