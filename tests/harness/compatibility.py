"""Compares two versions of an OpenAPI or AsyncAPI document: what would break whoever goes by the old one.

Allowed is what adds: a path, a response, a message, a property, a value that is known of. Words and examples may change
as they like. Whatever else differs is reported, even where a longer look might find it harmless.
"""

from collections.abc import Iterator
from typing import Any

_NO_PROMISE = frozenset({"title", "summary", "description", "examples", "tags", "info", "servers", "x-queue-arguments"})
_SENT_BY_THE_CALLER = frozenset({"requestBody", "parameters"})
_CONSTRAINTS = frozenset(
    {"type", "format", "enum", "const", "pattern", "minLength", "maxLength", "minimum", "maximum", "required"}
    | {"additionalProperties"}
)
"""What a request must not begin to be asked for."""


def breaking_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Where `new` breaks what `old` promised, each as its place in the document and what happened there."""
    return list(dict.fromkeys(_compare(old, new, _Documents(old, new), place="", sent=False)))


class _Documents:
    """Both documents, to look references up in, and the references that are being followed."""

    def __init__(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._old = old
        self._new = new
        self._followed: set[tuple[str, bool]] = set()

    def follow(self, reference: str, *, sent: bool) -> tuple[Any, Any] | None:
        """What the reference means in each of them; None if that has been compared already."""
        if (reference, sent) in self._followed:
            return None
        self._followed.add((reference, sent))
        return _resolve(self._old, reference), _resolve(self._new, reference)


def _compare(old: Any, new: Any, documents: _Documents, place: str, *, sent: bool) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        yield from _compare_objects(old, new, documents, place, sent=sent)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _compare_lists(old, new, documents, place, sent=sent)
    elif old != new:
        yield f"{place}: was {old!r}, is {new!r}"


def _compare_objects(
    old: dict[str, Any], new: dict[str, Any], documents: _Documents, place: str, *, sent: bool
) -> Iterator[str]:
    if "$ref" in old and old == new:
        both = documents.follow(old["$ref"], sent=sent)
        if both:
            yield from _compare(*both, documents, old["$ref"], sent=sent)
        return
    are_names = place.endswith("/properties")
    for name, value in old.items():
        here = f"{place}/{name}"
        if here == "/components" or (name in _NO_PROMISE and not are_names):
            continue  # what components say counts where they are referred to
        if name not in new:
            yield f"{here}: is gone"
        else:
            yield from _compare(value, new[name], documents, here, sent=sent or name in _SENT_BY_THE_CALLER)
    if sent and not are_names:
        yield from (f"{place}/{name}: is asked for now" for name in _CONSTRAINTS & new.keys() - old.keys())


def _compare_lists(old: list[Any], new: list[Any], documents: _Documents, place: str, *, sent: bool) -> Iterator[str]:
    kind = place.rpartition("/")[2]
    if kind == "parameters":
        yield from _compare_parameters(old, new, documents, place)
    elif kind == "security" and old != new:
        yield f"{place}: was {old}, is {new}"
    elif kind == "required" and sent:
        yield from (f"{place}: {name} is required now" for name in new if name not in old)
    else:  # required in an answer, enum, messages: all that was there is still there
        yield from (f"{place}: {value} is gone" for value in old if value not in new)


def _compare_parameters(old: list[Any], new: list[Any], documents: _Documents, place: str) -> Iterator[str]:
    def by_name(parameters: list[Any]) -> dict[str, Any]:
        return {one.get("$ref") or f"{one['in']} {one['name']}": one for one in parameters}

    before, now = by_name(old), by_name(new)
    for name, parameter in before.items():
        if name not in now:
            yield f"{place}: {name} is gone"
        else:
            yield from _compare(parameter, now[name], documents, f"{place}/{name}", sent=True)
    yield from (
        f"{place}: {name} is required now" for name, one in now.items() if name not in before and one.get("required")
    )


def _resolve(document: dict[str, Any], reference: str) -> Any:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
    return found
