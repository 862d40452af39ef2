"""Every metric and label that a dashboard or an alert names is there in a deployment through which leads went.

A Prometheus with the shipped configuration asks real services and a real RabbitMQ; nothing here knows a metric's name.
"""

import asyncio
import subprocess
import time

import aiohttp
import pytest
import pytest_asyncio
import yaml

from tests.harness.client import Client
from tests.harness.dashboards import dashboards, grouped_by, panels, selectors
from tests.harness.files import pdf
from tests.harness.prometheus import CONFIGURATION, Prometheus, prometheus, targets_of
from tests.harness.rabbitmq import RabbitNode
from tests.harness.sizes import House, at_scale

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.rabbitmq, pytest.mark.long]

SEEN_SECONDS = 30.0
ONLY_WHILE_AN_ALERT_FIRES = "ALERTS"
BY_PROMETHEUS_ITSELF = {"job", "instance"}
RULES = [
    rule["expr"]
    for group in yaml.safe_load((CONFIGURATION.parent / "rules" / "leads.yml").read_text())["groups"]
    for rule in group["rules"]
]
QUERIES = [query for name in dashboards() for panel in panels(name) for query in panel.queries]
EXPRESSIONS = [*RULES, *(query.over("30s") for query in QUERIES)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory):
    node = RabbitNode(tmp_path_factory.mktemp("rabbitmq"), metrics=True)
    try:
        async with (
            at_scale(tmp_path_factory.mktemp("house"), node) as house,
            prometheus(tmp_path_factory.mktemp("prometheus"), targets_of(house.deployment, node)) as seen,
        ):
            await live_through_a_day(house)
            yield house, seen
    finally:
        node.stop()


async def live_through_a_day(house: House) -> None:
    """A lead, the same again, and one while the storage is away: accepted, refused, and turned away by our fault."""
    async with Client(house.deployment.api_url) as client:
        statuses = [(await client.post_lead("ann@example.com", pdf(3000))).status for _ in range(2)]
        house.deployment.kill("storage")
        statuses.append((await client.post_lead("bob@example.com", pdf(3000))).status)
        await house.deployment.restart("storage")
    assert statuses == [201, 400, 503]


async def found(seen: Prometheus, selector: str, deadline: float) -> list[dict[str, str]]:
    """Its series, as soon as Prometheus has one."""
    while not (series := await seen.series(selector)) and time.monotonic() < deadline:
        await asyncio.sleep(0.3)
    return series


async def test_every_series_is_there_with_the_labels_it_is_grouped_by(house):
    _, seen = house
    deadline = time.monotonic() + SEEN_SECONDS
    missing = []
    for expression in EXPRESSIONS:
        labels: set[str] = set()
        for selector in selectors(expression):
            if selector.startswith(ONLY_WHILE_AN_ALERT_FIRES):
                continue
            series = await found(seen, selector, deadline)
            missing += [] if series else [selector]
            labels.update(*series)
        missing += [f"{label} in {expression}" for label in grouped_by(expression) - labels - BY_PROMETHEUS_ITSELF]
    assert not missing


async def test_prometheus_evaluates_each_query_and_its_legend_names_each_line(house):
    _, seen = house
    unnamed = []
    for query in QUERIES:
        results = await seen.query(query.over("30s"))
        names = [query.named(result["metric"]).strip(" :") for result in results]
        if len(set(names)) < len(names) or not all(names):
            unnamed.append((query.expression, names))
    assert not unnamed


async def test_no_alert_cries_wolf_when_one_lead_was_turned_away(house):
    _, seen = house
    deadline = time.monotonic() + SEEN_SECONDS  # a notifier that just started tells at its next look of its consumer
    while (holding := [rule for rule in RULES if "5.." not in rule and await seen.query(rule)]) and (
        time.monotonic() < deadline
    ):
        await asyncio.sleep(0.5)
    assert holding == []
    assert not await seen.query('ALERTS{alertstate="firing"}')


@pytest.mark.parametrize("room", ["api", "storage", "notifier"])
async def test_names_and_help_are_as_prometheus_wants_them(house, room: str):
    at_scale_house, _ = house
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{at_scale_house.deployment.ports[room]}/metrics"
        async with session.get(url) as response:
            page = await response.read()
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
