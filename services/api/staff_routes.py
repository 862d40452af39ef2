"""The staff's doors: sign in, find leads, read one, move it on, download its resume."""

from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel, Field

from services.api import leads
from services.api.lead_reads import LeadReads
from services.api.leads import LeadChange, LeadPage, LeadView, etag, find_lead
from services.api.list_parameters import ListParameters
from services.api.openapi import headers, refusals
from services.api.rates import Rates, caller_address
from services.api.resumes import ResumeKind
from services.api.search import NO_NUL
from services.api.settings import ApiSettings, rate
from services.api.staff import Staff
from services.api.tables import User
from shared.database import Database
from shared.problems import FieldError, Problem, ProblemType, invalid_fields

_BEARER = OAuth2PasswordBearer(tokenUrl="leads/login", auto_error=False, description="E-mail address and password.")


LeadId = Annotated[str, Path(description="A lead's id.")]


class Token(BaseModel):
    """What a sign-in answers (RFC 6749, section 5.1)."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105 - the RFC's word
    expires_in: int


class Credentials(BaseModel):
    """Name and password."""

    username: str = Field(pattern=NO_NUL)
    password: str


class PublicKeys(BaseModel):
    """A JWK Set (RFC 7517, section 5)."""

    keys: list[dict[str, Any]]


_BINARY = {"type": "string", "format": "binary"}
_FILE_HEADERS = ("Accept-Ranges", "Content-Disposition", "ETag")
_FILE: dict[str, Any] = {
    "content": {
        kind.content_type: {"schema": {"type": "string"} if kind is ResumeKind.TXT else _BINARY} for kind in ResumeKind
    }
}

LOGIN_SCHEMA: dict[str, Any] = {
    "required": True,
    "content": {
        # Two names for the same: a generated client goes by the class of what it is given.
        "application/x-www-form-urlencoded": {"schema": Credentials.model_json_schema() | {"title": "CredentialsForm"}},
        "application/json": {"schema": Credentials.model_json_schema()},
    },
}


def login_routes(settings: ApiSettings, staff: Staff, rates: Rates) -> APIRouter:
    """`POST /leads/login`."""
    router = APIRouter(tags=["staff"])
    limit = rate(settings.login_rate)

    @router.post(
        "/leads/login",
        summary="Sign in",
        openapi_extra={"requestBody": LOGIN_SCHEMA},
        response_description="Signed in.",
        responses=refusals(
            ProblemType.UNAUTHENTICATED,
            ProblemType.BODY_TOO_LARGE,
            ProblemType.UNSUPPORTED_MEDIA_TYPE,
            ProblemType.INVALID_FIELDS,
            ProblemType.RATE_LIMITED,
            ProblemType.UNAVAILABLE,
        ),
    )
    async def sign_in(request: Request) -> Token:
        """A token for the staff's routes, for a name and a password as form or JSON."""
        credentials = await _credentials(request)
        await rates.hit(limit, "login-address", caller_address(request, settings.trusted_proxies))
        await rates.hit(limit, "login-account", credentials.username.strip().casefold()[:254])
        signed_in = await staff.sign_in(credentials.username, credentials.password)
        return Token(access_token=signed_in.token, expires_in=signed_in.lifetime_seconds)

    @router.get(
        "/.well-known/jwks.json",
        summary="Public keys of the tokens",
        response_description="The keys.",
        responses=refusals(),
    )
    async def list_public_keys() -> PublicKeys:
        """With RS256, the key that verifies tokens (RFC 7517); with HS256, none."""
        return PublicKeys(**staff.public_keys())

    return router


def lead_routes(database: Database, staff: Staff, reads: LeadReads) -> APIRouter:
    """`/leads` for those who are signed in."""

    async def signed_in(request: Request, token: Annotated[str | None, Depends(_BEARER)]) -> User:
        if len(request.headers.getlist("authorization")) > 1:
            token = None
        return await staff.of_token(token or "")

    router = APIRouter(
        tags=["staff"],
        dependencies=[Depends(signed_in)],
        responses=refusals(ProblemType.UNAUTHENTICATED, ProblemType.UNAVAILABLE),
    )

    @router.get(
        "/leads",
        summary="List leads",
        response_description="One page.",
        responses={200: headers("Link"), **refusals(ProblemType.INVALID_FIELDS)},
    )
    async def list_leads(request: Request, response: Response, asked: Annotated[ListParameters, Query()]) -> LeadPage:
        """Leads, newest first unless sorted otherwise, page by page. `Link` names the next page (RFC 8288)."""
        page, found = await reads.page(request, asked)
        response.headers.update(found)
        return page

    @router.get(
        "/leads/{lead_id}",
        summary="Read a lead",
        response_description="The lead.",
        responses={200: headers("ETag"), **refusals(ProblemType.NOT_FOUND)},
    )
    async def read_lead(lead_id: LeadId, response: Response) -> LeadView:
        """One lead, with its ETag."""
        lead = await find_lead(database, lead_id)
        response.headers["ETag"] = etag(lead)
        return LeadView.of(lead)

    @router.patch(
        "/leads/{lead_id}",
        summary="Move a lead",
        response_description="The lead as it is now.",
        responses={
            200: headers("ETag"),
            **refusals(
                ProblemType.NOT_FOUND,
                ProblemType.ILLEGAL_TRANSITION,
                ProblemType.PRECONDITION_FAILED,
                ProblemType.BODY_TOO_LARGE,
                ProblemType.UNSUPPORTED_MEDIA_TYPE,
                ProblemType.INVALID_FIELDS,
            ),
        },
    )
    async def move_lead(
        lead_id: LeadId,
        change: LeadChange,
        response: Response,
        if_match: Annotated[str | None, Header(alias="If-Match", description="The `ETag` that you read.")] = None,
    ) -> LeadView:
        """Mark a lead reached out. With `If-Match`, only if it is as you read it."""
        lead = await leads.move_lead(database, lead_id, change.state, if_match)
        response.headers["ETag"] = etag(lead)
        return LeadView.of(lead)

    @router.get(
        "/leads/{lead_id}/resume",
        summary="Download a resume",
        response_class=Response,
        responses={
            200: {"description": "The whole resume.", **headers(*_FILE_HEADERS), **_FILE},
            307: {
                "description": "Where to fetch it from, within a minute, if Leads is set up so. Send no token there.",
                **headers("Location"),
            },
            206: {"description": "The part that was asked for.", **headers(*_FILE_HEADERS, "Content-Range"), **_FILE},
            **refusals(ProblemType.NOT_FOUND, ProblemType.RANGE_NOT_SATISFIABLE),
        },
    )
    async def download_resume(
        request: Request,
        lead_id: LeadId,
        range_: Annotated[
            str | None, Header(alias="Range", description="A part of it (RFC 9110, section 14.2).")
        ] = None,
    ) -> Response:
        """The resume as it was sent, whole or in part (`Range`). Always a download, never a page of ours."""
        return await reads.resume(request, lead_id, range_)

    return router


async def _credentials(request: Request) -> Credentials:
    """Name and password, from a form (as OAuth2 sends them) or from JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    try:
        if kind == "application/x-www-form-urlencoded":
            fields = parse_qs(body.decode(), max_num_fields=20, keep_blank_values=True)
            return Credentials.model_validate({name: values[0] for name, values in fields.items() if len(values) == 1})
        if kind == "application/json":
            return Credentials.model_validate_json(body)
    except ValueError:
        detail = "Send your e-mail address as `username`, and your `password`."
        raise invalid_fields(FieldError("username", detail), FieldError("password", detail)) from None
    detail = "Sign in with a form (application/x-www-form-urlencoded) or with JSON."
    raise Problem(ProblemType.UNSUPPORTED_MEDIA_TYPE, detail)
