"""`leads doctor` on whole deployments: well in both sizes, and honest about what is not."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import pytest_asyncio

from tests.harness.commands import leads
from tests.harness.deployment import Deployment
from tests.harness.sizes import EMBEDDED, House, at_scale, embedded

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEN_SECONDS = 10.0
REAL = {"LEADS_MAIL_FROM": "hiring@your-company.com", "LEADS_PUBLIC_URL": "https://leads.your-company.com"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small(tmp_path_factory):
    async with embedded(tmp_path_factory.mktemp(EMBEDDED)) as house:
        yield house


async def diagnose(deployment: Deployment, *arguments: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """The exit status, and the findings by check."""
    done = await leads(deployment, "doctor", "--json", *arguments)
    assert done.errors == ""
    told = json.loads(done.output)
    assert told["ok"] is (done.status == 0)
    assert not any(secret in done.output for secret in secrets_of(deployment))
    found: dict[str, list[dict[str, str]]] = {}
    for finding in told["findings"]:
        found.setdefault(finding["check"], []).append(finding)
    return done.status, found


@contextmanager
def told(deployment: Deployment, **settings: str) -> Iterator[None]:
    """With other settings for commands; the rooms keep theirs."""
    with mock.patch.dict(deployment.environment, settings):
        yield


def secrets_of(deployment: Deployment) -> list[str]:
    return [value for name, value in deployment.environment.items() if name.endswith(("_SECRET", "_PASSWORD", "_KEY"))]


def states(found: dict[str, list[dict[str, str]]]) -> set[str]:
    return {finding["state"] for findings in found.values() for finding in findings}


async def test_a_healthy_embedded_deployment_has_nothing_that_failed(small: House):
    status, found = await diagnose(small.deployment)
    assert status == 0, found
    assert states(found) <= {"ok", "warning"}, "nothing is left out when all runs"
    assert "takes the api's token" in found["storage"][0]["found"]


@pytest.mark.long
@pytest.mark.rabbitmq
async def test_so_has_a_healthy_one_with_rabbitmq_and_sendgrid(tmp_path, rabbit_node):
    async with at_scale(tmp_path, rabbit_node, REAL) as house:
        status, found = await diagnose(house.deployment)
        assert house.sendgrid is not None
        assert (house.sendgrid.received, house.sendgrid.sandboxed) == ([], 1)
    assert status == 0, found
    assert states(found) <= {"ok", "warning"}
    assert {
        finding["state"] for check in ("broker", "topology", "publishing", "consuming") for finding in found[check]
    } == {"ok"}


async def test_before_the_first_start_what_is_missing_is_told_and_nothing_is_made(tmp_path):
    deployment = Deployment(tmp_path)
    status, found = await diagnose(deployment)
    assert status == 0, found
    assert "is not running" in found["api room"][0]["found"]
    assert not deployment.data.exists()


async def test_a_secret_that_api_and_storage_do_not_share_is_found_by_trying_it(small: House):
    with told(small.deployment, LEADS_SERVICE_SECRET="x" * 48):
        status, found = await diagnose(small.deployment)
    assert status == 1
    assert "refuses the api's token (401)" in found["storage"][0]["found"]
    assert "LEADS_SERVICE_SECRET" in found["storage"][0]["mend"]


async def test_it_is_told_to_people_in_lines_that_say_what_to_do(small: House):
    with told(small.deployment, LEADS_STORAGE_URL=small.deployment.api_url):
        done = await leads(small.deployment, "doctor", "--room", "api")
    assert done.status == 1
    lines = [line.rstrip() for line in done.output.splitlines()]
    failed = next(
        number for number, line in enumerate(lines) if line.startswith("failed") and "is not the storage" in line
    )
    assert lines[failed + 1].strip() == "-> Correct LEADS_STORAGE_URL."
    assert lines[-1].endswith("Mend what failed, then look again.")
    assert "notifier room" not in done.output


@pytest.mark.long
async def test_nothing_keeps_it_longer_than_ten_seconds(small: House):
    """A port where everything is taken and nothing answered, as by a machine that hangs."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        where = f"127.0.0.1:{deaf.getsockname()[1]}"
        broker = f"amqp://leads:hunter2@{where}/leads"
        with told(small.deployment, LEADS_STORAGE_URL=f"http://{where}", LEADS_BROKER_URL=broker):
            began_at = time.monotonic()
            status, found = await diagnose(small.deployment)
            took_seconds = time.monotonic() - began_at
    assert took_seconds < TEN_SECONDS
    assert status == 1
    assert "did not answer in time at LEADS_BROKER_URL" in found["broker"][0]["found"]
    assert "Correct LEADS_STORAGE_URL" in found["storage"][0]["mend"]
