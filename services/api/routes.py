"""The public door: one form, one answer. FastAPI documents the route but does not read its body: `Upload` does.

Where tickets are offered (`upload_routes`), JSON with a ticket is a lead as well.
"""

import re
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.routing import APIRoute

from services.api.claims import is_claim, read_claim
from services.api.intake import Accepted, Caller, Intake
from services.api.leads import LeadView
from services.api.multipart import UploadRules
from services.api.openapi import headers, refusals
from services.api.rates import Rates, caller_address
from services.api.settings import ApiSettings, rate
from services.api.upload import Upload, keep_connection
from shared.events import TRACEPARENT_PATTERN
from shared.metrics import LEADS_REFUSED
from shared.observe import correlation_id
from shared.problems import FieldError, Problem, ProblemType, invalid_fields
from shared.tickets import Tickets
from shared.tracing.spans import TRACEPARENT, traceparent

IDEMPOTENCY_KEY_MAX = 255
_KEY = re.compile(rf"[\x21-\x7e]{{1,{IDEMPOTENCY_KEY_MAX}}}")

_TEXTS: dict[str, Any] = {
    "first_name": {"type": "string", "minLength": 1, "maxLength": 100, "examples": ["Ann"]},
    "last_name": {"type": "string", "minLength": 1, "maxLength": 100, "examples": ["Lee"]},
    "email": {"type": "string", "format": "email", "maxLength": 254, "examples": ["ann@example.com"]},
}

FORM_SCHEMA: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "title": "LeadForm",
                "description": "A person's lead, as a form sends it.",
                "type": "object",
                "required": ["first_name", "last_name", "email", "resume"],
                "properties": {
                    **_TEXTS,
                    "resume": {
                        "type": "string",
                        "format": "binary",
                        "contentMediaType": "application/octet-stream",
                        "description": "PDF or DOCX, at most 5 MiB.",
                    },
                },
            }
        },
        "application/json": {
            "schema": {
                "title": "LeadClaim",
                "description": "A person's lead whose resume was sent by a ticket, where tickets are offered.",
                "type": "object",
                "required": ["first_name", "last_name", "email", "ticket"],
                "properties": {
                    **_TEXTS,
                    "ticket": {"type": "string", "description": "As `POST /leads/uploads` gave it."},
                },
            }
        },
    },
}


_REFUSALS = refusals(
    ProblemType.MALFORMED_MULTIPART,
    ProblemType.DUPLICATE_EMAIL,
    ProblemType.UPLOAD_UNFINISHED,
    ProblemType.TICKET_USED,
    ProblemType.BODY_TOO_LARGE,
    ProblemType.UNSUPPORTED_MEDIA_TYPE,
    ProblemType.UNSUPPORTED_RESUME,
    ProblemType.INVALID_FIELDS,
    ProblemType.IDEMPOTENCY_KEY_REUSED,
    ProblemType.RATE_LIMITED,
    ProblemType.UNAVAILABLE,
)


def intake_routes(settings: ApiSettings, intake: Intake, tickets: Tickets, rates: Rates) -> APIRouter:
    """`POST /leads`."""
    router = APIRouter(tags=["intake"], route_class=_UnreadRoute)
    rules = UploadRules(settings.resume_max_bytes, settings.resume_kinds)
    limit = rate(settings.intake_rate)

    @router.post(
        "/leads",
        status_code=201,
        response_model=LeadView,
        summary="Send a lead",
        response_description="The lead is kept, with its resume.",
        openapi_extra={"requestBody": FORM_SCHEMA},
        responses={201: headers("Location", "Idempotency-Replayed"), **_REFUSALS},
    )
    async def submit_lead(
        request: Request,
        idempotency_key: Annotated[
            str | None,
            Header(
                alias="Idempotency-Key",
                pattern=f"^{_KEY.pattern}$",
                description="A name for this request, such as a UUID: sent again, it is answered as it was at first.",
            ),
        ] = None,
    ) -> Response:
        """Keep a lead with its resume. The answer comes when both are on the disk.

        With an `Idempotency-Key`, the same request may be sent again: it gets the first answer for seven days.
        """
        del idempotency_key  # declared for the document; read with its repetitions by `_caller`
        try:
            await rates.hit(limit, "intake", caller_address(request, settings.trusted_proxies))
            if settings.storage_public_url and is_claim(request):
                accepted = await intake.accept_claim(await read_claim(request, tickets), _caller(request))
            else:
                accepted = await intake.accept_lead(Upload(request, rules), _caller(request))
        except Problem as problem:
            LEADS_REFUSED.labels(problem.type).inc()
            if not keep_connection(request):
                problem.headers["Connection"] = "close"
            raise
        request.scope["state"]["log"] = {"lead_id": accepted.lead_id}
        return _created(accepted)

    return router


class _UnreadRoute(APIRoute):
    """Hands the request over as it is: the framework would look for parameters that the route reads by itself.

    So a dependency of the router would not be asked.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


def _created(accepted: Accepted) -> Response:
    headers = {"Location": f"/leads/{accepted.lead_id}"}
    if accepted.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(accepted.answer, status_code=201, headers=headers, media_type="application/json")


def _caller(request: Request) -> Caller:
    keys = request.headers.getlist("idempotency-key")
    if len(keys) > 1 or (keys and not _KEY.fullmatch(keys[0])):
        detail = f"Use one key of 1 to {IDEMPOTENCY_KEY_MAX} visible ASCII characters, such as a UUID."
        raise invalid_fields(FieldError("Idempotency-Key", detail))
    return Caller(
        idempotency_key=keys[0] if keys else None,
        correlation_id=correlation_id(),
        traceparent=traceparent() or _traceparent(request),
    )


def _traceparent(request: Request) -> str | None:
    """The caller's, handed on as it is while we make no spans of our own."""
    given = request.headers.get(TRACEPARENT, "")
    return given if re.fullmatch(TRACEPARENT_PATTERN, given) else None
