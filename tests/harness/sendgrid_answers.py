"""How the stand-in for SendGrid answers: what it refuses, in SendGrid's words, and how it breaks off."""

import json
import time
from http import HTTPStatus
from typing import Any

from aiohttp import web

from tests.harness.sendgrid_rules import Fault, error_body, faults

REQUESTS_PER_WINDOW = 10_000


async def judge(request: web.Request) -> tuple[web.Response | None, dict[str, Any]]:
    """What SendGrid would refuse this request with, and the document it carries."""
    key = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not key.startswith("SG.") or len(key) <= len("SG.") or key.split() != [key]:
        return refuse(401, Fault("The provided authorization grant is invalid, expired, or revoked", None)), {}
    if request.content_type != "application/json":
        return refuse(415, Fault("Content-Type should be application/json.", None)), {}
    try:
        document = json.loads(await request.read())
    except web.HTTPRequestEntityTooLarge:
        return refuse(413, Fault("The JSON payload you have included in your request is too large.", None)), {}
    except ValueError:
        return refuse(400, Fault("Bad Request", None)), {}
    found = faults(document)
    return (refuse(400, *found), {}) if found else (None, document)


def refuse(status: int, *found: Fault) -> web.Response:
    """Say no, in the shape of SendGrid's errors."""
    return web.Response(status=status, body=error_body(*found), content_type="application/json")


def answer_status(status: int, reset_in_seconds: float) -> web.Response:
    """That status, whatever was asked."""
    said = {
        401: "The provided authorization grant is invalid, expired, or revoked",
        403: "The from address does not match a verified Sender Identity.",
        429: "too many requests",
    }
    response = refuse(status, Fault(said.get(status, HTTPStatus(status).phrase), None))
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        response.headers.update(limits(0, reset_in_seconds))
    return response


def limits(remaining: int, reset_in_seconds: float) -> dict[str, str]:
    """The headers that tell of the rate limit."""
    return {
        "X-RateLimit-Limit": str(REQUESTS_PER_WINDOW),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(round(time.time() + reset_in_seconds)),
    }


def drop(request: web.Request, last_words: bytes = b"") -> web.StreamResponse:
    """Close the connection under the handler: the response it returns reaches nobody."""
    if request.transport is not None:
        request.transport.write(last_words)
        request.transport.close()
    return web.Response()
