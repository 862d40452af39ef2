"""The OpenAPI document of the api: what FastAPI says of the routes, and what it cannot know of them.

That is: how refusals look (RFC 9457), the headers of answers, and examples. It is built when somebody first asks for
it. `make contracts` writes the same document to `docs/openapi.json`.
"""

from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from typing import Any, Final

from fastapi import FastAPI

from services.api.examples import ANSWERS, DETAILS, FIELD_ERRORS
from shared.events import CORRELATION_ID_PATTERN
from shared.observe import CORRELATION_HEADER
from shared.problems import MEDIA_TYPE, TABLE, TYPE_PREFIX, FieldError, Problem, ProblemType
from shared.version import VERSION

Part = dict[str, Any]
"""A piece of the document."""

INFO: Final[Part] = {
    "title": "Leads",
    "version": VERSION,
    "description": "Lead intake that never loses a lead. Send one at `POST /leads`; sign in (Authorize) to see them.",
    "license_info": {"name": "MIT", "identifier": "MIT"},
    "openapi_tags": [
        {"name": "intake", "description": "For anybody: send a lead."},
        {"name": "staff", "description": "For those who work with leads: sign in, find, read, move on."},
    ],
    "generate_unique_id_function": lambda route: route.name,  # `operationId`: what a generated client calls it
    "servers": [
        {"url": "/", "description": "Where this document was read"},
        {"url": "http://127.0.0.1:8000", "description": "As `make run` starts it"},
    ],
}
"""What FastAPI is told of the whole."""

EVERYWHERE: Final = (
    ProblemType.MALFORMED_REQUEST,
    ProblemType.REQUEST_TIMEOUT,
    ProblemType.HEADERS_TOO_LARGE,
    ProblemType.INTERNAL_ERROR,
)
"""What every address may answer, whatever it serves (`shared/web.py`, `shared/limited_http.py`)."""

_REFUSAL_HEADERS = {
    ProblemType.UNAUTHENTICATED: "WWW-Authenticate",
    ProblemType.METHOD_NOT_ALLOWED: "Allow",
    ProblemType.PRECONDITION_FAILED: "ETag",
    ProblemType.RANGE_NOT_SATISFIABLE: "Content-Range",
    ProblemType.RATE_LIMITED: "Retry-After",
    ProblemType.UNAVAILABLE: "Retry-After",
}

_HEADERS: Final[dict[str, Part]] = {
    CORRELATION_HEADER: {"description": "The caller's, or a new one; in the logs of every room.", "required": True},
    "Accept-Ranges": {"description": "`bytes`: parts can be asked for with `Range`."},
    "Allow": {"description": "The methods that this address serves."},
    "Content-Disposition": {"description": "Always an attachment, with the name that the person gave the file."},
    "Content-Range": {"description": "Which bytes these are, of how many (RFC 9110, section 14.4)."},
    "ETag": {"description": "The version of what was read (RFC 9110, section 8.8.3)."},
    "Idempotency-Replayed": {"description": "`true` where this answer was given before, to the same key."},
    "Link": {"description": 'The next page, `rel="next"`; not on the last one (RFC 8288).'},
    "Location": {"description": "Where to go on: the new lead, or the file.", "required": True},
    "Retry-After": {"description": "In how many seconds to try again.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "`Bearer`."},
}

_PROBLEM_DETAILS: Final[Part] = {
    "type": "object",
    "description": "A refusal (RFC 9457). Go by `type`; the words may improve, and new types may be added.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri",
            "description": "Stable. Compared, never fetched.",
            "examples": [TYPE_PREFIX + problem for problem in ProblemType],
        },
        "title": {"type": "string", "description": "The kind of problem, in words."},
        "status": {"type": "integer", "description": "The HTTP status, once more.", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong with this request, and what to do about it."},
        "errors": {
            "type": "array",
            "description": "The fields at fault, where fields are.",
            "items": {"$ref": "#/components/schemas/FieldError"},
        },
    },
}

_FIELD_ERROR: Final[Part] = {
    "type": "object",
    "description": "One field that is not valid.",
    "required": ["field", "detail"],
    "properties": {
        "field": {"type": "string", "description": "Its name, as it was sent."},
        "detail": {"type": "string", "description": "What to do about it."},
    },
}

_CORRELATION_PARAMETER: Final[Part] = {
    "name": CORRELATION_HEADER,
    "in": "header",
    "required": False,
    "description": "A name for this request, to be found again in answer, logs and event.",
    "schema": {"type": "string", "pattern": f"^{CORRELATION_ID_PATTERN}$"},
}


def refusals(*types: ProblemType) -> dict[int | str, Part]:
    """The `responses` of a route that may refuse for these reasons, beside those which are the same everywhere."""
    by_status: dict[int | str, list[ProblemType]] = {}
    for problem in sorted({*EVERYWHERE, *types}, key=list(ProblemType).index):
        by_status.setdefault(int(TABLE[problem][0]), []).append(problem)
    return {status: _refusal(problems) for status, problems in by_status.items()}


def headers(*names: str) -> Part:
    """The `headers` of an answer, by their names."""
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}


def describe(app: FastAPI) -> None:
    """Have `app` serve the whole document, built once somebody asks for it."""
    app.openapi = partial(_document, app)  # type: ignore[method-assign] # as FastAPI's "Extending OpenAPI" has it


def example(problem: ProblemType) -> Part:
    """A problem of that type as the api says it."""
    errors = [FieldError(*error) for error in FIELD_ERRORS.get(problem, ())]
    return Problem(problem, DETAILS[problem], errors=errors).document()


def _refusal(problems: list[ProblemType]) -> Part:
    named = [_REFUSAL_HEADERS[problem] for problem in problems if problem in _REFUSAL_HEADERS]
    return {
        "description": "; ".join(TABLE[problem][1] for problem in problems),
        **headers(*named),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/ProblemDetails"},
                "examples": {problem: {"$ref": f"#/components/examples/{problem}"} for problem in problems},
            }
        },
    }


def _document(app: FastAPI) -> Part:
    if app.openapi_schema is None:
        document = deepcopy(FastAPI.openapi(app))  # some of it belongs to the routes
        _complete(document)
        app.openapi_schema = document
    return app.openapi_schema


def _complete(document: Part) -> None:
    components = document["components"]
    _add_components(components)
    operations = list(_operations(document))
    named = {name for operation in operations for name in _refusals_of(operation)}
    others = _any_other([problem for problem in ProblemType if problem not in named])
    for operation in operations:
        operation["responses"]["default"] = others
        _hoist_form(operation, components["schemas"])
        _complete_parameters(operation)
        _complete_responses(operation)
        operation.setdefault("security", [])
    for media in _media_types(operations):
        name = media["schema"].get("$ref", "").rpartition("/")[2]
        if name in ANSWERS:
            media["examples"] = {name: {"$ref": f"#/components/examples/{name}"}}


def _add_components(components: Part) -> None:
    schemas = components["schemas"]
    schemas |= {"ProblemDetails": _PROBLEM_DETAILS, "FieldError": _FIELD_ERROR}
    for frameworks_own in ("HTTPValidationError", "ValidationError"):
        schemas.pop(frameworks_own, None)
    components["headers"] = {name: {"schema": {"type": "string"}, **said} for name, said in _HEADERS.items()}
    components["parameters"] = {CORRELATION_HEADER: _CORRELATION_PARAMETER}
    problems = {problem.value: {"value": example(problem)} for problem in DETAILS}
    components["examples"] = problems | {name: {"value": value} for name, value in ANSWERS.items()}


def _any_other(problems: list[ProblemType]) -> Part:
    described = "Any other refusal: what is said of no address by itself, and what later versions may add."
    return {**_refusal(problems), "description": described}


def _hoist_form(operation: Part, schemas: Part) -> None:
    """Give a body that its route reads by itself a name: generators of clients make a class of it."""
    for media in operation.get("requestBody", {}).get("content", {}).values():
        schema = media["schema"]
        if "title" in schema:
            schemas[schema["title"]] = schema
            media["schema"] = {"$ref": f"#/components/schemas/{schema['title']}"}


def _complete_parameters(operation: Part) -> None:
    parameters = operation.setdefault("parameters", [])
    for parameter in parameters:
        schema = parameter["schema"]
        kinds = [kind for kind in schema.pop("anyOf", ()) if kind != {"type": "null"}]
        if kinds:  # `None` is Python's word for a parameter that is left out: nobody can send null here
            parameter["schema"] = {**schema, **(kinds[0] if len(kinds) == 1 else {"anyOf": kinds})}
    parameters.append({"$ref": f"#/components/parameters/{CORRELATION_HEADER}"})


def _complete_responses(operation: Part) -> None:
    responses = operation["responses"]
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]  # FastAPI supposes it wherever there is a parameter, even one that takes any text
    for response in responses.values():
        response["headers"] = {**headers(CORRELATION_HEADER)["headers"], **response.get("headers", {})}
    operation["responses"] = dict(sorted(responses.items()))


def _operations(document: Part) -> Iterator[Part]:
    for path in document["paths"].values():
        yield from path.values()


def _media_types(operations: list[Part]) -> Iterator[Part]:
    for operation in operations:
        for body in (operation.get("requestBody", {}), *operation["responses"].values()):
            if "application/json" in body.get("content", {}):
                yield body["content"]["application/json"]


def _refusals_of(operation: Part) -> Iterator[str]:
    for response in operation["responses"].values():
        yield from response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
