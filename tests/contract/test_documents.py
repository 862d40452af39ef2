"""The documents say what the code says, in a form that other people's validators accept, and only ever add to it."""

import json

import pytest
import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator, validate

from contracts.documents import ASYNCAPI, DOCUMENTS, OPENAPI
from shared.events import EVENT_TYPES
from shared.problems import ProblemType
from tests.harness.compatibility import breaking_changes
from tests.harness.contract_tools import NODE, run
from tests.harness.deployment import ROOT

RELEASED = ROOT / "tests" / "contract" / "golden" / "released"
EACH = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


@EACH
def test_the_document_is_what_the_code_says(path):
    assert path.read_text() == DOCUMENTS[path](), f"{path.name} is not up to date: run `make contracts` and commit it"


@EACH
def test_the_document_only_adds_to_what_was_released(path):
    """A client or a consumer of the last release goes on working. At a release, its documents are copied there."""
    released = yaml.safe_load((RELEASED / path.name).read_text())  # JSON is YAML too
    assert breaking_changes(released, yaml.safe_load(path.read_text())) == []


def test_openapi_spec_validator_accepts_the_openapi_document():
    validate(json.loads(OPENAPI.read_text()), cls=OpenAPIV31SpecValidator)


def test_spectral_has_nothing_to_say_of_either(node_tools):
    spectral = NODE / "node_modules" / ".bin" / "spectral"
    run(spectral, "lint", "--ruleset", NODE / ".spectral.yaml", "--fail-severity", "hint", OPENAPI, ASYNCAPI)


def test_asyncapis_own_parser_accepts_the_document_and_finds_every_event_in_it(node_tools):
    assert set(run("node", NODE / "parse_asyncapi.mjs", ASYNCAPI).split()) == EVENT_TYPES.keys()


def test_every_problem_type_has_its_example_and_some_operation_shows_it():
    document = json.loads(OPENAPI.read_text())
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    shown = {
        name
        for operation in operations
        for response in operation["responses"].values()
        for name in response.get("content", {}).get("application/problem+json", {}).get("examples", {})
    }
    assert shown == {problem.value for problem in ProblemType}
    assert shown <= document["components"]["examples"].keys()
