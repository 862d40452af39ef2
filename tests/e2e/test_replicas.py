"""Two apis on one database behind nginx are one api: one lead for a key, one limit, one staff, nothing kept back."""

import asyncio
import json
import signal
from collections import Counter
from contextlib import AsyncExitStack
from hashlib import sha256
from io import BytesIO

import pytest
import pytest_asyncio

from shared.problems import TABLE, TYPE_PREFIX, ProblemType
from tests.harness import kept
from tests.harness.bad_inputs import FORM_TYPE
from tests.harness.client import Client
from tests.harness.commands import leads
from tests.harness.deployment import ADMIN, PASSWORD
from tests.harness.files import pdf
from tests.harness.inbox import wait_for
from tests.harness.missing import cannot_run
from tests.harness.nginx import MISSING, find_nginx
from tests.harness.raw_http import Part, connection, form, head
from tests.harness.replicas import SETTINGS, Replicas, replicated
from tests.harness.sizes import embedded

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long]

RESUME = pdf(20_000)
MIB = 1024 * 1024
ANN, ANNS_PASSWORD = "ann.staff@example.com", "the-first-password-of-ann"
LEADS_A_MINUTE = 5
GUESSES_A_MINUTE = 4


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def replicas(tmp_path_factory):
    """Without limits."""
    if find_nginx() is None:
        cannot_run(MISSING)
    folder = tmp_path_factory.mktemp("replicas")
    async with embedded(folder / "house", SETTINGS) as house, replicated(house, folder / "front") as replicas:
        yield replicas


@pytest_asyncio.fixture(loop_scope="module")
async def front(replicas: Replicas):
    async with Client(replicas.front.url) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def apis(replicas: Replicas):
    """A client of each api, past the front."""
    async with AsyncExitStack() as stack:
        urls = [replicas.house.deployment.url(name) for name in replicas.apis]
        yield [await stack.enter_async_context(Client(url)) for url in urls]


async def test_one_key_sent_to_both_at_once_is_one_lead(replicas: Replicas, apis: list[Client]):
    house = replicas.house
    look = kept.traces(house.deployment, house.inbox)
    before = look()
    key = {"Idempotency-Key": "one-key-for-both"}
    answers = await asyncio.gather(
        *(apis[number % 2].post_lead("both@example.com", RESUME, headers=key) for number in range(20))
    )
    assert {(answer.status, answer.body) for answer in answers} == {(201, answers[0].body)}
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    await wait_for(house.inbox, 2, lead_id=answers[0].json["id"])
    await asyncio.sleep(0.3)
    assert [after - earlier for earlier, after in zip(before, look(), strict=True)] == [1, 1, 1, 2]


async def test_one_address_sent_to_both_at_once_is_one_lead(apis: list[Client]):
    answers = await asyncio.gather(*(api.post_lead("Same@example.com", RESUME) for api in apis))
    assert sorted(answer.status for answer in answers) == [201, 400]


async def test_the_front_gives_each_its_share_and_staff_are_known_to_both(front: Client, apis: list[Client]):
    assert (await front.login(ADMIN, PASSWORD)).status == 200
    lead = (await front.post_lead("share@example.com", RESUME)).json
    answers = [await front.call("GET", f"/leads/{lead['id']}/resume") for _ in range(4)]
    assert {sha256(answer.body).hexdigest() for answer in answers} == {sha256(RESUME).hexdigest()}
    for api in apis:
        api.token = front.token
        assert (await api.call("GET", f"/leads/{lead['id']}")).json == lead


async def test_both_take_their_turns(replicas: Replicas, front: Client):
    for _ in range(4):
        assert (await front.call("GET", "/healthz")).status == 200
    lines = [json.loads(line) for line in replicas.front.output().splitlines() if line.startswith("{")]
    asked = Counter(line["api"] for line in lines if line["path"] == "/healthz")
    ports = (replicas.house.deployment.ports[name] for name in replicas.apis)
    assert asked.keys() == {f"127.0.0.1:{port}" for port in ports}


async def test_who_is_disabled_is_out_at_both_with_the_next_request(replicas: Replicas, apis: list[Client]):
    deployment = replicas.house.deployment
    added = await leads(deployment, "users", "add", ANN, "--password-stdin", stdin=f"{ANNS_PASSWORD}\n")
    assert added.status == 0
    for api in apis:
        assert (await api.login(ANN, ANNS_PASSWORD)).status == 200
    assert [(await api.call("GET", "/leads")).status for api in apis] == [200, 200]
    assert (await leads(deployment, "users", "disable", ANN)).status == 0
    assert [(await api.call("GET", "/leads")).status for api in apis] == [401, 401]
    assert [(await api.login(ANN, ANNS_PASSWORD)).status for api in apis] == [401, 401]


async def test_limits_hold_over_both_and_go_by_the_address_that_the_front_saw(tmp_path):
    if find_nginx() is None:
        cannot_run(MISSING)
    limits = {"LEADS_INTAKE_RATE": f"{LEADS_A_MINUTE}/minute", "LEADS_LOGIN_RATE": f"{GUESSES_A_MINUTE}/minute"}
    async with (
        embedded(tmp_path / "house", {**SETTINGS, **limits}) as house,
        replicated(house, tmp_path / "front") as replicas,
        Client(replicas.front.url) as front,
    ):
        claims = [{"X-Forwarded-For": f"203.0.113.{n}", "Forwarded": f"for=203.0.113.{n}"} for n in range(12)]
        posts = [front.post_lead(f"{n}@example.com", RESUME, headers=claim) for n, claim in enumerate(claims)]
        answers = await asyncio.gather(*posts)
        assert Counter(answer.status for answer in answers) == {201: LEADS_A_MINUTE, 429: 12 - LEADS_A_MINUTE}
        assert all(1 <= int(one.headers["Retry-After"]) <= 60 for one in answers if one.status == 429)
        guesses = [(await front.login(ADMIN, "wrong-password")).status for _ in range(GUESSES_A_MINUTE + 2)]
        assert guesses == [401] * GUESSES_A_MINUTE + [429] * 2


@pytest.mark.parametrize("size", [5 * MIB + 1, 12 * MIB])
async def test_the_apis_own_refusal_of_a_large_body_gets_through(front: Client, size: int):
    answer = await front.post_lead("large@example.com", BytesIO(pdf(size)))
    assert (answer.status, answer.json["type"]) == (413, f"{TYPE_PREFIX}body-too-large")


async def test_a_resume_at_the_limit_and_many_headers_get_through(front: Client):
    headers = {f"X-Note-{number}": "x" * 1000 for number in range(12)}
    assert (await front.post_lead("limit@example.com", BytesIO(pdf(5 * MIB)), headers=headers)).status == 201
    refused = await front.call("GET", "/leads", headers={**headers, "X-Long": "x" * 8000})
    assert (refused.status, refused.json["type"]) == (431, f"{TYPE_PREFIX}headers-too-large")


async def test_a_body_reaches_the_api_while_it_is_still_being_sent(replicas: Replicas):
    """Held back until it is whole, it would fill nginx's disk, and the api could not refuse it early."""
    deployment = replicas.house.deployment
    body = form([Part("first_name", b"Ann"), Part("resume", RESUME, filename="cv.exe")])
    async with connection(replicas.front.port) as (reader, writer):
        writer.write(head("POST", "/leads", [FORM_TYPE, ("Content-Length", str(len(body) + 1000))]) + body)
        await writer.drain()
        status = await asyncio.wait_for(reader.readline(), 10)
    assert b" 415 " in status, deployment.log_file("api").read_text()[-2000:]


@pytest.mark.parametrize("path", ["/metrics", "//metrics", "/%6detrics", "/metrics/", "/leads/../metrics", "/readyz"])
async def test_what_is_for_those_who_run_it_is_not_passed_on(replicas: Replicas, path: str):
    async with connection(replicas.front.port) as (reader, writer):
        writer.write(head("GET", path, [("Connection", "close")]))
        answer = (await asyncio.wait_for(reader.read(), 10)).decode()
    assert answer.startswith("HTTP/1.1 404 ")
    assert "leads_" not in answer
    assert json.loads(answer.partition("\r\n\r\n")[2])["type"] == f"{TYPE_PREFIX}{ProblemType.NOT_FOUND}"


async def test_a_post_that_one_api_has_in_hand_is_not_repeated_at_the_other(replicas: Replicas, front: Client):
    deployment, victim = replicas.house.deployment, replicas.apis[1]
    before = kept.event_rows(deployment)
    deployment.processes[victim].send_signal(signal.SIGSTOP)
    posts = [asyncio.create_task(front.post_lead(f"once-{n}@example.com", RESUME)) for n in range(4)]
    done, waiting = await asyncio.wait(posts, timeout=3)
    assert [post.result().status for post in done] == [201] * len(done)
    assert waiting, "one of both has some in hand"
    deployment.kill(victim)
    for post in waiting:
        answer = await post
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert answer.json.items() >= _problem(ProblemType.UNAVAILABLE).items()
    assert kept.event_rows(deployment) - before == len(done)
    assert [(await front.post_lead(f"later-{n}@example.com", RESUME)).status for n in range(4)] == [201] * 4
    await deployment.restart(victim)


async def test_the_front_says_in_its_log_nothing_of_anybody(replicas: Replicas, front: Client):
    """Also when an api is away, of which nginx complains with the caller and the whole request."""
    deployment, victim = replicas.house.deployment, replicas.apis[1]
    deployment.kill(victim)
    async with asyncio.timeout(30):  # nginx leaves out for ten seconds whoever did not answer an earlier test
        while '"api_status": "502, ' not in replicas.front.output():
            await front.call("GET", "/leads?email=searched-for@example.com")
            await asyncio.sleep(0.1)
    await deployment.restart(victim)
    output = replicas.front.output()
    assert "searched-for" not in output
    assert "client: " not in output
    assert '"path": "/leads"' in output


def _problem(type_: ProblemType) -> dict[str, object]:
    status, title = TABLE[type_]
    return {"type": f"{TYPE_PREFIX}{type_}", "title": title, "status": status}
