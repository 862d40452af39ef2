"""What staff ask for most, a page of leads and a resume: what is answered, and past the framework's way to it.

To search for the route, its parameters and its dependencies costs the framework more than it takes to answer
(docs/decisions/0017-where-the-time-goes.md). What is asked in the usual form is answered straight away; whatever is not
goes the framework's way, which knows how to refuse it.
"""

import json
from collections.abc import Mapping
from functools import partial
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import RedirectResponse
from fastapi.security.utils import get_authorization_scheme_param
from pydantic import ValidationError

from services.api import search, store
from services.api.downloads import download
from services.api.leads import LeadPage, no_lead
from services.api.list_parameters import ListParameters
from services.api.search import LeadQuery, Page
from services.api.staff import Staff
from services.api.storage_client import StorageClient
from services.api.tables import User
from shared.database import Database
from shared.ids import is_id
from shared.looks import Looks
from shared.problems import FieldError, invalid_fields
from shared.web import is_head


class LeadReads:
    """Pages and resumes. With `redirect`, resumes are fetched where they are, if that can be."""

    def __init__(
        self,
        database: Database,
        looks: Looks,
        storage: StorageClient,
        staff: Staff,
        *,
        redirect: bool,
        search_resumes: bool,
    ) -> None:
        self._database = database
        self._storage = storage
        self._staff = staff
        self._redirect = redirect
        self._search_resumes = search_resumes
        self._looks = looks

    async def page(self, request: Request, asked: ListParameters) -> tuple[LeadPage, Mapping[str, str]]:
        """A page, and the headers that go with it. Raises `Problem` 422."""
        page, headers = await self._page(request, asked)
        return LeadPage.model_validate_json(page), headers

    async def _page(self, request: Request, asked: ListParameters) -> tuple[str, Mapping[str, str]]:
        """The page as JSON."""
        query = asked.query()
        if query.resume is not None and not self._search_resumes:
            raise invalid_fields(FieldError("resume", "Resumes are not searched here (LEADS_RESUME_SEARCH)."))
        page, total = await self._found(query, counted=asked.total)
        headers = {"Link": _next_link(request, page.next_cursor)} if page.next_cursor else {}
        rest = json.dumps({"next_cursor": page.next_cursor, "total": total}, separators=(",", ":"))
        return f'{{"items":[{",".join(page.leads)}],{rest[1:]}', headers

    async def _found(self, query: LeadQuery, *, counted: bool) -> tuple[Page, int | None]:
        """In a file, what an index finds at once is looked for together; nobody waits for a search but who asked."""
        if self._database.is_file and query.is_found_at_once and not counted:
            return await self._looks.ask(search.find_pages, query, weight=query.weight), None
        return await self._database.read(partial(search.find_page_and_total, query=query, counted=counted))

    async def resume(self, request: Request, lead_id: str, range_header: str | None) -> Response:
        """The resume, whole or in part, or where it is. Raises `Problem` 404, 416, 503."""
        resume = await self._looks.ask(store.find_resumes, lead_id) if is_id(lead_id) else None
        if resume is None:
            raise no_lead()
        # A link is signed for GET: whoever followed it with HEAD would be refused.
        is_led_there = self._redirect and not is_head(request.scope)
        url = await self._storage.link(resume.blob_id) if is_led_there else None
        if url is not None:
            return RedirectResponse(url, headers={"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})
        return await download(self._storage, resume, range_header)

    async def page_straight(self, request: Request) -> Response | None:
        """The answer to `GET /leads`, if it is asked in the usual form."""
        if await self._reader(request) is None:
            return None
        given = request.query_params.multi_items()
        try:
            asked = ListParameters.model_validate(dict(given))
        except ValidationError:
            return None
        if len(given) > len(asked.model_fields_set):
            return None
        page, headers = await self._page(request, asked)
        return Response(page, headers=headers, media_type="application/json")

    async def resume_straight(self, request: Request) -> Response | None:
        """The answer to `GET /leads/{lead_id}/resume`, if it is asked in the usual form."""
        ranges = request.headers.getlist("range")
        if len(ranges) > 1 or await self._reader(request) is None:
            return None
        return await self.resume(request, request.path_params["lead_id"], ranges[0] if ranges else None)

    async def _reader(self, request: Request) -> User | None:
        """Who asks, by the one token that the request carries; None where it carries something else."""
        given = request.headers.getlist("authorization")
        scheme, token = get_authorization_scheme_param(given[0]) if len(given) == 1 else ("", "")
        return await self._staff.of_token(token) if scheme.lower() == "bearer" else None


def _next_link(request: Request, cursor: str) -> str:
    """Relative, so that no header of the caller decides where it leads."""
    query = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    return f'</leads?{urlencode([*query, ("cursor", cursor)])}>; rel="next"'
