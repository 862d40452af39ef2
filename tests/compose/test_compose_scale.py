"""docker-compose.scale.yml: three apis and two notifiers behind nginx, one of which dies under load."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.storm import Storm
from tests.harness.client import Client
from tests.harness.compose import MISSING, Stack, docker, find_compose, merged_by_hand
from tests.harness.missing import cannot_run
from tests.harness.sizes import STAFF

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

NGINX = "nginx:1.28"
APIS, NOTIFIERS = 3, 2
LEADS = 150
GUESSES_A_MINUTE = 10
SETTINGS = {"LEADS_STAFF_EMAIL": STAFF}
SCALE = ("up", "-d", "--scale", f"api={APIS}", "--scale", f"notifier={NOTIFIERS}")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scaled(tmp_path_factory) -> AsyncIterator[Stack]:
    if find_compose() is None:
        cannot_run(MISSING)
    if NGINX not in await docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}"):
        pulled = await docker("pull", NGINX, check=False)
        if "Downloaded" not in pulled and "up to date" not in pulled:
            cannot_run(f"the image {NGINX} cannot be had: {pulled.strip()}")
    stack = Stack(SETTINGS, files=merged_by_hand(tmp_path_factory.mktemp("compose")))
    try:
        await stack.build()
        await stack.compose(*SCALE)
        await stack.healthy("front", "api", "notifier", "storage", "rabbitmq")
        yield stack
    finally:
        await stack.down()


async def test_nothing_is_published_but_the_front_and_rabbitmqs_pages(scaled: Stack):
    published = {}
    for service in ("front", "api", "storage", "notifier", "rabbitmq"):
        for found in await scaled.inspect(service):
            ports = found["NetworkSettings"]["Ports"]
            published |= {port: [at["HostIp"] for at in where] for port, where in ports.items() if where}
    assert published == {"8080/tcp": ["127.0.0.1"], "15672/tcp": ["127.0.0.1"]}


async def test_the_front_is_no_root_and_writes_nowhere(scaled: Stack):
    (found,) = await scaled.inspect("front")
    assert found["Config"]["User"] not in {"", "0", "root"}
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert found["HostConfig"]["CapDrop"] == ["ALL"]


async def test_who_calls_is_who_the_front_saw_for_all_apis_together(scaled: Stack):
    async with Client(scaled.api_url) as client:
        claims = ({"X-Forwarded-For": f"203.0.113.{number}"} for number in range(GUESSES_A_MINUTE + 5))
        guesses = [
            await client.call(
                "POST", "/leads/login", headers=claim, data={"username": f"u{n}@leads.example", "password": "wrong"}
            )
            for n, claim in enumerate(claims)
        ]
        assert Counter(guess.status for guess in guesses) == {401: GUESSES_A_MINUTE, 429: 5}
        assert (await client.call("GET", "/metrics")).status == 404


async def test_an_api_dies_in_the_middle_of_150_leads_and_each_is_answered_201_and_mailed(scaled: Stack):
    storm = Storm(scaled.api_url, "scaled", dice=random.Random(3))
    posting = asyncio.create_task(storm.run(LEADS))
    await storm.reaches(LEADS // 3)
    await docker("kill", (await scaled.containers("api"))[0])
    await posting
    acknowledged = {attempt.email for attempt in storm.ledger if attempt.status == 201}
    await scaled.compose(*SCALE)
    await scaled.mails_arrive(2 * len(acknowledged), seconds=120)
    lines = [line for one in await scaled.containers("front") for line in (await docker("logs", one)).splitlines()]
    requests = [json.loads(line) for line in lines if line.startswith("{")]
    assert len({one["api"] for one in requests if one["status"] == 201}) >= APIS, "each took some"
    shares = [(await docker("logs", one)).count("email sent") for one in await scaled.containers("notifier")]
    assert min(shares) > 0, "both sent some"
