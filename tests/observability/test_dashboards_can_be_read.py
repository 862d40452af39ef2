"""A dashboard explains itself: each panel says what it shows, in which unit, and names its lines."""

import itertools

import pytest
import yaml

from tests.harness.dashboards import Panel, dashboard, dashboards, panels
from tests.harness.deployment import ROOT

GRID_COLUMNS = 24
PROVISIONING = ROOT / "observability" / "grafana" / "provisioning"
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

SHOWN = [(name, panel) for name in dashboards() for panel in panels(name) if panel.kind != "row"]


def test_links_to_a_dashboard_stay_true():
    assert {name: dashboard(name)["uid"] for name in dashboards()} == {"leads": "leads", "rabbitmq": "leads-rabbitmq"}
    links = {link["url"] for name in dashboards() for link in dashboard(name)["links"]}
    assert links == {f"/d/{dashboard(name)['uid']}" for name in dashboards()}


@pytest.mark.parametrize("name", dashboards())
def test_whoever_looks_can_choose_the_prometheus(name: str):
    (variable,) = dashboard(name)["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    kinds = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert [kind["type"] for kind in kinds] == ["prometheus"]


@pytest.mark.parametrize(("name", "panel"), SHOWN, ids=[f"{name}-{panel.title}" for name, panel in SHOWN])
def test_a_panel_explains_itself(name: str, panel: Panel):
    assert panel.about["description"].endswith(".")
    assert panel.about["fieldConfig"]["defaults"]["unit"]
    assert panel.about["datasource"] == DATASOURCE
    assert all(target["datasource"] == DATASOURCE for target in panel.about["targets"])
    assert panel.queries
    assert all(query.legend for query in panel.queries)


@pytest.mark.parametrize("name", dashboards())
def test_no_panel_covers_another(name: str):
    places = [panel.about["gridPos"] for panel in panels(name)]
    assert all(place["x"] + place["w"] <= GRID_COLUMNS for place in places)
    for one, other in itertools.combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert apart or above, (one, other)
