"""The comparison of two versions of a document sees each kind of change that would break somebody, and no other."""

from copy import deepcopy
from typing import Any

import pytest

from tests.harness.compatibility import breaking_changes

TEXT = {"type": "string"}
OLD: dict[str, Any] = {
    "info": {"version": "1"},
    "paths": {
        "/leads": {
            "post": {
                "operationId": "submit_lead",
                "security": [],
                "parameters": [{"name": "key", "in": "header", "required": False, "schema": TEXT}],
                "requestBody": {"content": {"form": {"schema": {"$ref": "#/components/schemas/Form"}}}},
                "responses": {"201": {"content": {"json": {"schema": {"$ref": "#/components/schemas/Lead"}}}}},
            }
        }
    },
    "components": {
        "schemas": {
            "Form": {"required": ["email"], "properties": {"email": TEXT, "title": TEXT}},
            "Lead": {"required": ["id"], "properties": {"id": TEXT, "title": TEXT, "state": {"enum": ["A"]}}},
        }
    },
}


def changed(*path: str, to: Any = None) -> dict[str, Any]:
    """`OLD` with something else at that place, or nothing."""
    new = deepcopy(OLD)
    at = new
    for name in path[:-1]:
        at = at[name]
    if to is None:
        del at[path[-1]]
    else:
        at[path[-1]] = to
    return new


POST = ("paths", "/leads", "post")
FORM = ("components", "schemas", "Form")
LEAD = ("components", "schemas", "Lead")
NEW_PARAMETER = {"name": "new", "in": "query", "schema": TEXT}


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (changed("paths", "/leads"), "/paths//leads: is gone"),
        (changed(*POST, "operationId", to="send"), "/operationId: was 'submit_lead', is 'send'"),
        (changed(*POST, "security", to=[{"token": []}]), "/security: was []"),
        (changed(*POST, "parameters", to=[]), "header key is gone"),
        (
            changed(
                *POST,
                "parameters",
                to=[*OLD["paths"]["/leads"]["post"]["parameters"], NEW_PARAMETER | {"required": True}],
            ),
            "query new is required now",
        ),
        (changed(*POST, "responses", "201"), "/201: is gone"),
        (changed(*FORM, "required", to=["email", "title"]), "title is required now"),
        (changed(*FORM, "properties", "email", to={"type": "string", "maxLength": 5}), "/maxLength: is asked for now"),
        (changed(*FORM, "properties", "title"), "Form/properties/title: is gone"),
        (changed(*FORM, "additionalProperties", to=False), "/additionalProperties: is asked for now"),
        (changed(*LEAD, "properties", "title"), "Lead/properties/title: is gone"),
        (changed(*LEAD, "properties", "id", to={"type": "integer"}), "was 'string', is 'integer'"),
        (changed(*LEAD, "required", to=[]), "id is gone"),
        (changed(*LEAD, "properties", "state", "enum", to=["B"]), "A is gone"),
    ],
)
def test_what_would_break_somebody_is_seen(new, said):
    (found,) = breaking_changes(OLD, new)
    assert said in found


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        changed("info", "version", to="2"),
        changed("paths", "/users", to={"get": {}}),
        changed(*POST, "summary", to="in words"),
        changed(*POST, "parameters", to=[*OLD["paths"]["/leads"]["post"]["parameters"], NEW_PARAMETER]),
        changed(*POST, "responses", "503", to={}),
        changed(*FORM, "properties", "phone", to={"type": "string", "maxLength": 5}),
        changed(*FORM, "required", to=[]),
        changed(*LEAD, "properties", "phone", to=TEXT),
        changed(*LEAD, "required", to=["id", "title"]),
        changed(*LEAD, "properties", "state", "enum", to=["A", "B"]),
    ],
)
def test_what_only_adds_is_fine(new):
    assert breaking_changes(OLD, new) == []
