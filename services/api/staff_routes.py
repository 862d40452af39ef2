"""The staff's doors: sign in, find leads, read one, move it on, download its resume."""

from functools import partial
from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.security import OAuth2PasswordBearer
from pydantic import AwareDatetime, BaseModel, Field

from services.api import leads, search
from services.api.downloads import open_download
from services.api.leads import LeadChange, LeadPage, LeadView, etag, find_lead
from services.api.rates import Rates, caller_address
from services.api.routes import refusals
from services.api.search import NO_NUL, PAGE_DEFAULT, PAGE_MAX, LeadQuery
from services.api.settings import ApiSettings, rate
from services.api.staff import Staff
from services.api.states import LeadState
from services.api.storage_client import StorageClient
from services.api.tables import User
from shared.database import Database
from shared.problems import FieldError, Problem, ProblemType, invalid_fields

_BEARER = OAuth2PasswordBearer(tokenUrl="leads/login", auto_error=False, description="E-mail address and password.")


class Token(BaseModel):
    """What a sign-in answers (RFC 6749, section 5.1)."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105 - the RFC's word
    expires_in: int


class Credentials(BaseModel):
    """Name and password."""

    username: str = Field(pattern=NO_NUL)
    password: str


class ListParameters(BaseModel):
    """What the list can be asked for."""

    model_config = {"extra": "forbid"}

    state: LeadState | None = None
    q: str | None = Query(default=None, max_length=200, pattern=NO_NUL, description="Words of the name or the address.")
    email: str | None = Query(default=None, max_length=254, pattern=NO_NUL)
    created_after: AwareDatetime | None = None
    created_before: AwareDatetime | None = None
    sort: str = Query(default="-created_at", description="created_at, last_name, email; - before it for downwards.")
    limit: int = Query(default=PAGE_DEFAULT, ge=1, le=PAGE_MAX)
    cursor: str | None = Query(default=None, max_length=2000)
    total: bool = Query(default=False, description="Count all that match, which takes longer.")

    def query(self) -> LeadQuery:
        """The same in the words of the search."""
        return LeadQuery(
            state=self.state,
            words=self.q,
            email=self.email,
            created_after=self.created_after,
            created_before=self.created_before,
            sort=self.sort,
            limit=self.limit,
            cursor=self.cursor,
        )


LOGIN_SCHEMA: dict[str, Any] = {
    "required": True,
    "content": {
        kind: {"schema": Credentials.model_json_schema()}
        for kind in ("application/x-www-form-urlencoded", "application/json")
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
        responses=refusals(400, 401, 415, 422, 429),
    )
    async def login(request: Request) -> Token:
        """A token for the staff's routes, for a name and a password as form or JSON."""
        credentials = await _credentials(request)
        await rates.hit(limit, "login-address", caller_address(request, settings.trusted_proxies))
        await rates.hit(limit, "login-account", credentials.username.strip().casefold()[:254])
        signed_in = await staff.sign_in(credentials.username, credentials.password)
        return Token(access_token=signed_in.token, expires_in=signed_in.lifetime_seconds)

    @router.get("/.well-known/jwks.json", summary="Public keys of the tokens")
    async def jwks() -> dict[str, Any]:
        """With RS256, the key that verifies tokens (RFC 7517); with HS256, none."""
        return staff.public_keys()

    return router


def lead_routes(database: Database, storage: StorageClient, staff: Staff) -> APIRouter:
    """`/leads` for those who are signed in."""

    async def signed_in(request: Request, token: Annotated[str | None, Depends(_BEARER)]) -> User:
        if len(request.headers.getlist("authorization")) > 1:
            token = None
        return await staff.of_token(token or "")

    router = APIRouter(tags=["staff"], dependencies=[Depends(signed_in)], responses=refusals(401))

    @router.get("/leads", summary="List leads", responses=refusals(422))
    async def list_leads(request: Request, response: Response, asked: Annotated[ListParameters, Query()]) -> LeadPage:
        """Leads, newest first unless sorted otherwise, page by page. `Link` names the next page (RFC 8288)."""
        query = asked.query()
        page, total = await database.read(partial(search.find_page_and_total, query=query, counted=asked.total))
        if page.next_cursor:
            response.headers["Link"] = _next_link(request, page.next_cursor)
        views = [LeadView.of(lead) for lead in page.leads]
        return LeadPage(items=views, next_cursor=page.next_cursor, total=total)

    @router.get("/leads/{lead_id}", summary="Read a lead", responses=refusals(404))
    async def read_lead(lead_id: str, response: Response) -> LeadView:
        """One lead, with its ETag."""
        lead = await find_lead(database, lead_id)
        response.headers["ETag"] = etag(lead)
        return LeadView.of(lead)

    @router.patch("/leads/{lead_id}", summary="Move a lead", responses=refusals(404, 409, 412, 422))
    async def move_lead(
        lead_id: str, change: LeadChange, response: Response, if_match: Annotated[str | None, Header()] = None
    ) -> LeadView:
        """Mark a lead reached out. With `If-Match`, only if it is as you read it."""
        lead = await leads.move_lead(database, lead_id, change.state, if_match)
        response.headers["ETag"] = etag(lead)
        return LeadView.of(lead)

    @router.get(
        "/leads/{lead_id}/resume",
        summary="Download a resume",
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}, **refusals(404, 416, 503)},
    )
    async def download(lead_id: str, range_: Annotated[str | None, Header(alias="Range")] = None) -> StreamingResponse:
        """The resume as it was sent, whole or in part (`Range`). Always a download, never a page of ours."""
        lead = await find_lead(database, lead_id)
        found = await open_download(storage, lead, range_)
        return StreamingResponse(found.chunks, found.status, found.headers, media_type=lead.resume_content_type)

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


def _next_link(request: Request, cursor: str) -> str:
    """Relative, so that no header of the caller decides where it leads."""
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f'</leads?{urlencode([*query, ("cursor", cursor)])}>; rel="next"'
