"""SIGTERM under load: what was begun is finished, what was answered is kept, and the process ends in time with 0."""

import asyncio
import time

import aiohttp
import pytest
import pytest_asyncio

from tests.harness import kept
from tests.harness.asgi import BOUNDARY, lead_form
from tests.harness.client import Client
from tests.harness.deployment import ROOMS, Deployment
from tests.harness.files import pdf
from tests.harness.inbox import wait_for
from tests.harness.sizes import House, with_sendgrid

pytestmark = pytest.mark.asyncio(loop_scope="module")

STOP_SECONDS = 10.0
LET_GO_SECONDS = 3.0
"""How long an idle notifier may take on a busy machine: far from the 8 s of the grace, and from the pause's 60."""

CLIENTS = 16


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployed_house(tmp_path_factory):
    async with with_sendgrid(tmp_path_factory.mktemp("house"), {"LEADS_RETRY_DELAYS_SECONDS": "[0.2,0.4]"}) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def house(deployed_house: House):
    """With all rooms running, whatever the test before left."""
    deployment = deployed_house.deployment
    for room in ROOMS:
        if deployment.processes[room].poll() is not None:
            await deployment.restart(room)
    return deployed_house


async def stop_in_time(deployment: Deployment, room: str) -> int:
    """The exit status."""
    began_at = time.monotonic()
    status = await deployment.stop(room)
    assert time.monotonic() - began_at < STOP_SECONDS
    return status


async def until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.01)


class Load:
    """Clients that post one lead after another, each with its key, until there is no answer any more."""

    def __init__(self, deployment: Deployment, name: str) -> None:
        self._deployment = deployment
        self._name = name
        self.accepted: list[str] = []
        self.refused: list[int] = []
        self.unanswered: list[str] = []

    async def run(self) -> None:
        async with Client(self._deployment.api_url) as client:
            await asyncio.gather(*(self._post_on(client, number) for number in range(CLIENTS)))

    async def _post_on(self, client: Client, number: int) -> None:
        for turn in range(10_000):
            email = f"{self._name}{number}-{turn}@example.com"
            try:
                answer = await client.post_lead(email, pdf(20_000, seed=number))
            except aiohttp.ClientError:
                self.unanswered.append(email)
                return
            (self.accepted if answer.status == 201 else self.refused).append(
                email if answer.status == 201 else answer.status
            )


@pytest.mark.parametrize("room", ROOMS)
async def test_a_room_that_was_told_to_stop_and_did_says_so_with_status_0(house: House, room: str):
    assert await stop_in_time(house.deployment, room) == 0


async def test_an_api_that_is_stopped_under_load_keeps_what_it_answered_and_answers_what_it_began(house: House):
    load = Load(house.deployment, "load")
    running = asyncio.create_task(load.run())
    await until(lambda: len(load.accepted) >= 3 * CLIENTS)
    await stop_in_time(house.deployment, "api")
    await running
    assert load.refused == []
    assert all(kept.lead_rows(house.deployment, email) == 1 for email in load.accepted)
    # Each client's last request met no listener, or a kept-alive connection in the moment of its closing (RFC 9112,
    # section 9.5): nobody had read it. Had it been begun, its lead would be there without an answer.
    assert len(load.unanswered) == CLIENTS
    assert [email for email in load.unanswered if kept.lead_rows(house.deployment, email)] == []
    await house.deployment.restart("api")
    await wait_for(house.inbox, 2 * len(load.accepted), seconds=30)
    assert len(kept.blobs(house.deployment)) == kept.event_rows(house.deployment) == len(load.accepted)


async def test_an_upload_under_way_when_the_api_is_stopped_gets_its_201(house: House):
    body = lead_form("half-way@example.com", pdf(200_000))
    half_sent, may_go_on = asyncio.Event(), asyncio.Event()

    async def in_two_halves():
        yield body[:100_000]
        half_sent.set()
        await may_go_on.wait()
        yield body[100_000:]

    async with Client(house.deployment.api_url) as client:
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Content-Length": str(len(body))}
        posting = asyncio.create_task(client.call("POST", "/leads", data=in_two_halves(), headers=headers))
        await half_sent.wait()
        await asyncio.sleep(0.1)
        stopping = asyncio.create_task(stop_in_time(house.deployment, "api"))
        await asyncio.sleep(0.5)
        may_go_on.set()
        answer = await posting
        await stopping
    assert answer.status == 201
    assert kept.lead_rows(house.deployment, "half-way@example.com") == 1
    await house.deployment.restart("api")
    await wait_for(house.inbox, 2, lead_id=answer.json["id"])


async def test_a_notifier_that_is_stopped_finishes_the_mails_in_hand_and_sends_none_twice(house: House):
    assert house.sendgrid is not None
    house.sendgrid.behave("slow", seconds=1.0)
    before = house.sendgrid.requests
    async with Client(house.deployment.api_url) as client:
        posted = await asyncio.gather(*(client.post_lead(f"slow{n}@example.com", pdf(3000)) for n in range(12)))
    leads = {answer.json["id"] for answer in posted}
    await until(lambda: house.sendgrid.requests >= before + 4)
    await stop_in_time(house.deployment, "notifier")
    states = {state for (lead, _), (state, _) in kept.email_rows(house.deployment).items() if lead in leads}
    assert states <= {"sent", "pending"}, "nothing was cut short"
    house.sendgrid.behave("accept")
    await house.deployment.restart("notifier")
    await until(lambda: sum(mail.lead_id in leads for mail in house.inbox()) >= 2 * len(leads))
    assert set(house.sendgrid.accepted_by_email_id.values()) == {1}


@pytest.mark.long
async def test_a_notifier_that_waits_out_a_pause_lets_go_at_once_and_all_is_sent_afterwards(house: House):
    assert house.sendgrid is not None
    house.sendgrid.behave("401")
    async with Client(house.deployment.api_url) as client:
        posted = await asyncio.gather(*(client.post_lead(f"pause{n}@example.com", pdf(3000)) for n in range(4)))
    leads = {answer.json["id"] for answer in posted}

    def emails() -> list[tuple[str, int]]:
        return [found for (lead, _), found in kept.email_rows(house.deployment).items() if lead in leads]

    await until(lambda: len(emails()) == 8 and {state for state, _ in emails()} == {"pending"})
    began_at = time.monotonic()
    assert await stop_in_time(house.deployment, "notifier") == 0
    assert time.monotonic() - began_at < LET_GO_SECONDS
    house.sendgrid.behave("accept")
    await house.deployment.restart("notifier")
    await until(lambda: {state for state, _ in emails()} == {"sent"})
    assert {attempts for _, attempts in emails()} <= {1, 2}, "what was sent off without a try counts none"


@pytest.mark.long
async def test_a_storage_that_is_stopped_finishes_the_body_in_hand(house: House):
    load = Load(house.deployment, "storage")
    running = asyncio.create_task(load.run())
    await until(lambda: len(load.accepted) >= CLIENTS)
    await stop_in_time(house.deployment, "storage")
    await asyncio.sleep(0.2)
    await stop_in_time(house.deployment, "api")
    await running
    assert all(kept.lead_rows(house.deployment, email) == 1 for email in load.accepted)
    assert set(load.refused) <= {503}
    await house.deployment.restart("storage")
    await house.deployment.restart("api")
    await wait_for(house.inbox, 2 * kept.event_rows(house.deployment), seconds=30)
