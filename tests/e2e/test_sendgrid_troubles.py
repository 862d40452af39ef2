"""Whatever SendGrid does, no e-mail is lost, and what happened is to be seen: in states, in /readyz, in the queues."""

import asyncio
import re
import time

import pytest
import pytest_asyncio

from shared.health import CACHE_SECONDS
from tests.harness import kept
from tests.harness.client import Client
from tests.harness.commands import leads
from tests.harness.deployment import STOP_SECONDS, Deployment
from tests.harness.files import pdf
from tests.harness.sizes import House, with_sendgrid

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOTH = {"prospect", "staff"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def deployed_house(tmp_path_factory):
    delays = {"LEADS_RETRY_DELAYS_SECONDS": "[0.2,0.4,0.6]"}
    async with with_sendgrid(tmp_path_factory.mktemp("house"), delays) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def house(deployed_house: House):
    """With a SendGrid that behaves and a notifier that has not heard otherwise."""
    yield deployed_house
    deployed_house.sendgrid.behave("accept")
    deployed_house.deployment.kill("notifier")
    await deployed_house.deployment.restart("notifier")


async def post(house: House, name: str, count: int = 1) -> list[str]:
    async with Client(house.deployment.api_url) as client:
        answers = [await client.post_lead(f"{name}{number}@example.com", pdf(3000)) for number in range(count)]
    assert {answer.status for answer in answers} == {201}
    return [answer.json["id"] for answer in answers]


def states(deployment: Deployment, lead_id: str) -> dict[str, tuple[str, int]]:
    return {kind: found for (lead, kind), found in kept.email_rows(deployment).items() if lead == lead_id}


def both(state: str, attempts: int) -> dict[str, tuple[str, int]]:
    return dict.fromkeys(BOTH, (state, attempts))


async def until(condition, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        await asyncio.sleep(0.02)


async def until_sent(house: House, lead_ids: list[str], seconds: float = 15.0) -> None:
    def all_sent() -> bool:
        found = kept.email_rows(house.deployment)
        return all(found.get((lead_id, kind), ("", 0))[0] == "sent" for lead_id in lead_ids for kind in BOTH)

    await until(all_sent, seconds)


async def door(deployment: Deployment, path: str):
    async with Client(f"http://127.0.0.1:{deployment.ports['notifier']}") as client:
        return await client.call("GET", path)


async def dead_letters(deployment: Deployment) -> int:
    shown = await leads(deployment, "queues")
    assert shown.status == 0
    return int(shown.output.splitlines()[1].split()[-1])


@pytest.mark.long
async def test_after_a_429_nothing_is_sent_before_the_reset_and_no_attempt_is_burned(house: House):
    house.sendgrid.behave("429", times=2, seconds=3)
    before = house.sendgrid.requests
    first = await post(house, "throttled")
    await until(lambda: house.sendgrid.requests == before + 2)
    refused_at = time.time()
    more = await post(house, "meanwhile", 2)
    await until_sent(house, first + more)
    sent_at = [mail.at for mail in house.sendgrid.received if mail.payload["custom_args"]["lead_id"] in first + more]
    # The header is in whole seconds: "in three" may mean two and a half.
    assert min(sent_at) > refused_at + 2.4
    assert states(house.deployment, first[0]) == both("sent", 2)
    assert [states(house.deployment, lead_id) for lead_id in more] == [both("sent", 1)] * 2
    assert not [line for line in house.deployment.log("notifier") if line["event"] == "will retry"]


@pytest.mark.long
async def test_a_refused_key_pauses_all_mail_and_says_so_and_loses_none_of_it(house: House):
    house.sendgrid.behave("401")
    waiting = await post(house, "unauthorized", 3)
    await until(lambda: [line for line in house.deployment.log("notifier") if line["event"] == "circuit opened"])
    await asyncio.sleep(CACHE_SECONDS + 0.1)
    ready = await door(house.deployment, "/readyz")
    said = ready.json["checks"]["mail"]
    assert "sending is paused: SendGrid answered 401" in said
    assert "SENDGRID_API_KEY" in said
    assert "leads_mail_circuit_open 1.0" in (await door(house.deployment, "/metrics")).body.decode()

    requests = house.sendgrid.requests
    waiting += await post(house, "unauthorized-too", 2)
    await asyncio.sleep(1.0)
    assert house.sendgrid.requests == requests
    assert await dead_letters(house.deployment) == 0

    house.sendgrid.behave("accept")
    began_at = time.monotonic()
    await house.deployment.stop("notifier")
    assert time.monotonic() - began_at < STOP_SECONDS
    await house.deployment.restart("notifier")
    await until_sent(house, waiting)
    assert set(house.sendgrid.accepted_by_email_id.values()) == {1}
    await asyncio.sleep(CACHE_SECONDS)
    assert (await door(house.deployment, "/readyz")).json["checks"]["mail"] == "ok"


async def test_errors_of_sendgrid_are_retried_level_by_level(house: House):
    house.sendgrid.behave("500", times=3)
    before = len(house.deployment.log("notifier"))
    (lead,) = await post(house, "errors")
    await until_sent(house, [lead])
    said = [line for line in house.deployment.log("notifier")[before:] if line["event"] == "will retry"]
    assert [(line["attempt"], line["delay_seconds"]) for line in said] == [(1, 0.2), (2, 0.4)]
    assert all("SendGrid answered 500" in line["reason"] for line in said)
    assert sorted(attempts for _, attempts in states(house.deployment, lead).values()) == [2, 3]
    assert set(house.sendgrid.accepted_by_email_id.values()) == {1}


async def test_an_answer_that_never_came_is_uncertain_and_the_mail_is_sent_again(house: House):
    house.sendgrid.behave("drop_after_accept", times=2)
    (lead,) = await post(house, "dropped")
    await until_sent(house, [lead])
    assert states(house.deployment, lead) == both("sent", 2)
    metrics = (await door(house.deployment, "/metrics")).body.decode()
    for kind in BOTH:
        counted = re.search(rf'leads_emails_total{{kind="{kind}",state="uncertain"}} (\S+)', metrics)
        assert counted is not None, kind
        assert float(counted.group(1)) >= 1
    twice = [mail.email_id for mail in house.sendgrid.received if mail.payload["custom_args"]["lead_id"] == lead]
    assert len(twice) == 2 * len(set(twice)) == 4, "the same id each time: a reader can tell"


@pytest.mark.long
async def test_a_notifier_killed_while_sendgrid_hangs_sends_again_what_was_cut_short(house: House):
    house.sendgrid.behave("hang")
    before = house.sendgrid.requests
    (lead,) = await post(house, "hanging")
    await until(lambda: house.sendgrid.requests == before + 2)
    assert states(house.deployment, lead) == both("sending", 1)
    house.deployment.kill("notifier")
    house.sendgrid.behave("accept")
    await house.deployment.restart("notifier")
    await until_sent(house, [lead])
    assert states(house.deployment, lead) == both("sent", 2)


@pytest.mark.long
async def test_a_rejected_mail_is_a_dead_letter_with_its_reason_and_a_replay_sends_it_alone(house: House):
    house.sendgrid.behave("400", times=1)
    (lead,) = await post(house, "rejected")
    await until(lambda: {state for state, _ in states(house.deployment, lead).values()} == {"sent", "failed"})
    failed = next(kind for kind, (state, _) in states(house.deployment, lead).items() if state == "failed")
    peeked = await leads(house.deployment, "queues", "peek")
    assert peeked.status == 0
    (line,) = [line for line in peeked.output.splitlines() if "lead.created" in line]
    assert f"{failed} e-mail: SendGrid answered 400: Bad Request." in line
    assert "example.com" not in peeked.output, "reasons name no address"
    assert await dead_letters(house.deployment) == 1

    replayed = await leads(house.deployment, "queues", "replay")
    assert (replayed.status, replayed.output) == (0, "1 back in notifier.\n")
    await until_sent(house, [lead])
    assert await dead_letters(house.deployment) == 0
    sent = [mail.kind for mail in house.inbox() if mail.lead_id == lead]
    assert sorted(sent) == sorted(BOTH), "what was sent before was not sent again"
    assert (await leads(house.deployment, "queues", "peek")).output == "No dead letters.\n"
