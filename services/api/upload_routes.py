"""The door for big resumes: a ticket to send one straight to the storage, and to go on after a broken connection."""

from datetime import datetime

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from services.api.multipart import UploadRules, too_large
from services.api.openapi import headers, refusals
from services.api.rates import Rates, caller_address
from services.api.resumes import clean_filename, kind_of
from services.api.settings import ApiSettings, rate
from shared.ids import new_id
from shared.problems import Problem, ProblemType
from shared.tickets import Tickets

PROTOCOL = "tus/1.0.0"


class UploadWanted(BaseModel):
    """A resume that somebody wants to send."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filename: str = Field(min_length=1, description="As the person named it. Its kind goes by its end.")
    size_bytes: int = Field(strict=True, ge=1, description="How long it is, exactly.")


class UploadTicket(BaseModel):
    """Where to send it, and what to show there."""

    model_config = ConfigDict(frozen=True)

    upload_url: str = Field(description="Ask it how much has come (HEAD), send what is missing (PATCH).")
    ticket: str = Field(description="`Authorization: Bearer` there; the field `ticket` of the lead here.")
    expires_at: datetime = Field(description="Until then the resume must have come, and the lead after it.")
    max_bytes: int = Field(description="The most that any resume may hold.")
    protocol: str = Field(description="How to send it: https://tus.io/protocols/resumable-upload, without extensions.")


def upload_routes(settings: ApiSettings, tickets: Tickets, rates: Rates) -> APIRouter:
    """`POST /leads/uploads`."""
    router = APIRouter(tags=["intake"])
    rules = UploadRules(settings.resume_max_bytes, settings.resume_kinds)
    limit = rate(settings.intake_rate)

    @router.post(
        "/leads/uploads",
        status_code=201,
        summary="Get a ticket for a big resume",
        response_description="A ticket. Nothing is kept yet.",
        responses={
            201: headers("Location"),
            **refusals(
                ProblemType.NOT_FOUND,
                ProblemType.BODY_TOO_LARGE,
                ProblemType.UNSUPPORTED_MEDIA_TYPE,
                ProblemType.UNSUPPORTED_RESUME,
                ProblemType.INVALID_FIELDS,
                ProblemType.RATE_LIMITED,
                ProblemType.UNAVAILABLE,
            ),
        },
    )
    async def offer_upload(request: Request, response: Response, wanted: UploadWanted) -> UploadTicket:
        """Send the resume to `upload_url` with the ticket, then the lead as JSON with the same ticket (`POST /leads`).

        Not every deployment offers this: 404 where it does not. Tickets count as leads do for the rate limit.
        """
        if not settings.storage_public_url:
            detail = "Uploads straight to the storage are not offered here: send the resume with the form."
            raise Problem(ProblemType.NOT_FOUND, detail)
        await rates.hit(limit, "intake", caller_address(request, settings.trusted_proxies))
        offered = _offer(settings.storage_public_url, wanted, rules, tickets)
        response.headers["Location"] = offered.upload_url
        return offered

    return router


def _offer(public_url: str, wanted: UploadWanted, rules: UploadRules, tickets: Tickets) -> UploadTicket:
    filename = clean_filename(wanted.filename)
    kind_of(filename, rules.kinds)
    if wanted.size_bytes > rules.resume_max_bytes:
        raise too_large(rules)
    blob_id = new_id()
    ticket = tickets.issue(blob_id, filename=filename, size_bytes=wanted.size_bytes)
    return UploadTicket(
        upload_url=f"{public_url}/uploads/{blob_id}",
        ticket=ticket,
        expires_at=tickets.read(ticket).expires_at,
        max_bytes=rules.resume_max_bytes,
        protocol=PROTOCOL,
    )
