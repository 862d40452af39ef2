"""Every version of an event that ever left a queue: an old message is read by today's code, and today's only adds."""

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from shared.events import EVENT_TYPES, MEDIA_TYPE, Event

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*.json"))
VERSIONS = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)

REQUIRED = {"id", "source", "specversion", "type"}
"""CloudEvents 1.0.2, section "Required attributes"."""


def load(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def what_is_gone_or_changed(old: Any, new: Any, where: str = "") -> list[str]:
    """Where `new` lacks or alters something of `old`; what it adds is fine."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            place
            for name, value in old.items()
            for place in what_is_gone_or_changed(value, new.get(name), f"{where}.{name}")
        ]
    return [] if old == new else [where.lstrip(".")]


@VERSIONS
def test_an_old_message_still_in_a_queue_is_read_by_todays_code(file):
    event = Event.model_validate_json(file.read_bytes())
    data = event.payload()
    old = load(file)
    assert (event.id, event.subject, event.correlationid) == (old["id"], old["subject"], old["correlationid"])
    assert what_is_gone_or_changed(old["data"], data.model_dump(mode="json")) == []


@VERSIONS
def test_what_todays_code_sends_only_adds_to_what_the_version_said(file):
    """Today's reader may be gone tomorrow, and yesterday's is still running during a deploy."""
    old = load(file)
    event = Event.model_validate(old)
    data = event.payload()
    if (old["type"], int(old["dataschema"].rpartition(":")[2])) == (data.TYPE, data.VERSION):
        sent = Event.of(data, subject=event.subject, correlation_id=event.correlationid, traceparent=event.traceparent)
        today = {**json.loads(sent.encode()), "id": old["id"], "time": old["time"]}
        assert what_is_gone_or_changed(old, today) == []


@VERSIONS
def test_a_message_from_a_newer_version_with_more_in_it_is_read_too(file):
    newer = load(file)
    newer["futureattribute"] = "x"
    newer["data"]["a_field_of_tomorrow"] = {"deep": [1, 2]}
    assert Event.model_validate(newer).payload() == Event.model_validate(load(file)).payload()


@VERSIONS
def test_the_message_is_a_cloud_event(file):
    """CloudEvents 1.0.2: required attributes, their names, their types; and the JSON format's `data`."""
    found = load(file)
    assert found.keys() >= REQUIRED
    assert all(isinstance(found[name], str) and found[name] for name in REQUIRED)
    assert found["specversion"] == "1.0"
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in found)
    assert datetime.fromisoformat(found["time"]).tzinfo is not None
    assert re.fullmatch(r"[a-z]+:\S+", found["source"])
    assert re.fullmatch(r"[a-z]+:\S+", found["dataschema"])
    assert found["datacontenttype"] == "application/json"


@VERSIONS
def test_what_todays_code_sends_is_a_cloud_event_too(file):
    sent = json.loads(Event.model_validate(load(file)).encode())
    assert sent.keys() >= REQUIRED
    assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in sent)
    assert MEDIA_TYPE == "application/cloudevents+json"


def test_what_is_not_set_is_left_out_and_not_null():
    """The JSON format would read null as unset, but a reader in a queue's console would wonder."""
    event = Event.model_validate(load(FILES[0])).model_copy(update={"correlationid": None, "traceparent": None})
    assert not {"correlationid", "traceparent"} & json.loads(event.encode()).keys()


def test_every_version_in_the_code_has_its_golden_file():
    said = {f"{data.TYPE}.v{data.VERSION}" for data in EVENT_TYPES.values()}
    assert said <= {file.stem for file in FILES}


def test_every_golden_file_says_in_its_name_what_it_is():
    for file in FILES:
        type_, _, version = file.stem.rpartition(".v")
        assert (load(file)["type"], load(file)["dataschema"]) == (type_, f"urn:leads:schema:{type_}:{version}")


def test_the_comparison_sees_what_is_gone_what_is_renamed_and_what_is_of_another_kind():
    old = {"data": {"a": 1, "b": {"c": "x"}}}
    assert what_is_gone_or_changed(old, {"data": {"a": 1, "b": {"c": "x"}, "d": 2}}) == []
    assert what_is_gone_or_changed(old, {"data": {"a": "1", "b": {"e": "x"}}}) == ["data.a", "data.b.c"]
    assert what_is_gone_or_changed(old, {}) == ["data"]
