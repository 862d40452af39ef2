"""The shipped dashboards as they ask Prometheus: their panels, each panel's queries, and what a query names."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.harness.deployment import ROOT

FOLDER = ROOT / "observability" / "grafana" / "dashboards"

_WORDS_OF_PROMQL = frozenset({"and", "or", "unless", "bool", "offset"})
_TOKEN = re.compile(
    r"""
    \b (?:by|without|on|ignoring) \s* \( (?P<grouping> [^)]* ) \)
    | \[ [^\]]* \]                                                        # a range
    | " [^"]* "
    | (?P<selector> [a-zA-Z_:] [\w:]* \b (?: \{ (?: "[^"]*" | [^"}] )* \} )? ) (?! \s* (?: \( | by\b | without\b ) )
    | [a-zA-Z_] \w*                                                       # a function
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Query:
    """One query of a panel, and how Grafana names what it finds."""

    expression: str
    legend: str

    def over(self, rate_interval: str) -> str:
        """The expression as Grafana sends it when the dashboard shows a span that asks for this interval."""
        return self.expression.replace("$__rate_interval", rate_interval)

    def named(self, labels: dict[str, str]) -> str:
        """The legend of one series."""
        return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), self.legend)


@dataclass(frozen=True)
class Panel:
    """One panel, as Grafana's JSON model has it (`about`), with its queries."""

    about: dict[str, Any]

    @property
    def title(self) -> str:
        return str(self.about["title"])

    @property
    def kind(self) -> str:
        """`row`, `stat`, `timeseries`, `bargauge`."""
        return str(self.about["type"])

    @property
    def queries(self) -> tuple[Query, ...]:
        return tuple(Query(target["expr"], target["legendFormat"]) for target in self.about.get("targets", ()))


def dashboard(name: str) -> dict[str, Any]:
    """The JSON model of `leads` or `rabbitmq`."""
    model: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return model


def dashboards() -> list[str]:
    """The names of all that are shipped."""
    return sorted(file.stem for file in FOLDER.glob("*.json"))


def panels(name: str) -> list[Panel]:
    """Its panels in the order of the file, rows included."""
    return [Panel(about) for about in dashboard(name)["panels"]]


def selectors(expression: str) -> Iterator[str]:
    """Every `metric{labels}` that a PromQL expression asks for."""
    for token in _TOKEN.finditer(expression):
        if token["selector"] and token["selector"] not in _WORDS_OF_PROMQL:
            yield token["selector"]


def grouped_by(expression: str) -> set[str]:
    """Every label that it groups or matches by."""
    found = [token["grouping"] for token in _TOKEN.finditer(expression) if token["grouping"]]
    return {label.strip() for labels in found for label in labels.split(",")}
