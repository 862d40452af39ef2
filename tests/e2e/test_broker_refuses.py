"""A broker that refuses us costs no lead: 201 all along, one clear line, and both mails once it is mended.

Each fault is there when the rooms start and is mended at RabbitMQ alone: nothing has to be started again.
"""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from shared.bus.rabbitmq import RabbitBus
from shared.bus.rabbitmq import topology as declarations
from shared.ids import new_id
from shared.topology import leads_topology
from tests.harness.client import Client
from tests.harness.files import pdf
from tests.harness.inbox import wait_for
from tests.harness.rabbitmq import RabbitNode
from tests.harness.sizes import House, at_scale

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.rabbitmq, pytest.mark.long]

SEVERAL_TRIES_SECONDS = 3.0
"""Both rooms try again after 0.2 s, 0.5 s, 1 s or less."""

ROOMS = ("api", "notifier")
PASSWORD = secrets.token_hex(8)
EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}
NOTHING = dict.fromkeys(EVERYTHING, "^$")


@dataclass(frozen=True)
class Broken:
    """A broker as the rooms find it, and what mends it."""

    url: str
    mend: Callable[[], object]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory, rabbit_node):
    async with at_scale(tmp_path_factory.mktemp("house"), rabbit_node) as house:
        yield house


async def wrong_password(node: RabbitNode, vhost: str) -> Broken:
    node.add_vhost(vhost)
    url = node.add_user("rooms", vhost, **EVERYTHING, password="another")
    return Broken(
        url.replace("another", PASSWORD), lambda: node.add_user("rooms", vhost, **EVERYTHING, password=PASSWORD)
    )


async def missing_vhost(node: RabbitNode, vhost: str) -> Broken:
    return Broken(node.url(vhost), lambda: node.add_vhost(vhost))


async def missing_permission(node: RabbitNode, vhost: str) -> Broken:
    node.add_vhost(vhost)
    url = node.add_user("rooms", vhost, **NOTHING, password=PASSWORD)
    return Broken(url, lambda: node.add_user("rooms", vhost, **EVERYTHING, password=PASSWORD))


async def other_arguments(node: RabbitNode, vhost: str) -> Broken:
    node.add_vhost(vhost)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(declarations, "DELIVERY_LIMIT", 7)
        async with RabbitBus(node.url(vhost), leads_topology(), client_name="an earlier version"):
            pass
    return Broken(node.url(vhost), lambda: node.delete_queue(vhost, "notifier"))


def troubles(house: House, room: str, after: int) -> list[dict[str, Any]]:
    """What the room warned of. Fails on a stack, wherever it is."""
    lines = house.deployment.log(room)[after:]
    assert not [line for line in lines if "Traceback" in str(line) or "exception" in line]
    return [line for line in lines if line["level"] in {"warning", "error"}]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (wrong_password, "refuses the user or the password of LEADS_BROKER_URL"),
        (missing_vhost, "does not open the virtual host of LEADS_BROKER_URL"),
        (missing_permission, "The user of LEADS_BROKER_URL may not declare"),
        (other_arguments, 'has the queue "notifier" with other settings'),
    ],
)
async def test_leads_are_accepted_it_is_said_once_and_the_mails_follow_when_it_is_mended(
    house: House, rabbit_node: RabbitNode, fault, said
):
    vhost = f"test-{new_id()}"
    broken = await fault(rabbit_node, vhost)
    house.deployment.environment["LEADS_BROKER_URL"] = broken.url
    for room in ROOMS:
        house.deployment.kill(room)
    seen = {room: len(house.deployment.log(room)) for room in ROOMS}
    await asyncio.gather(*(house.deployment.restart(room) for room in ROOMS))

    async with Client(house.deployment.api_url) as client:
        answer = await client.post_lead(f"{fault.__name__}@example.com", pdf(3000))
        assert answer.status == 201
        await asyncio.sleep(SEVERAL_TRIES_SECONDS)
        ready = await client.call("GET", "/readyz")
    assert ready.status == 200
    assert "LEADS_BROKER_URL" in ready.json["checks"]["broker"]
    for room, after in seen.items():
        found = troubles(house, room, after)
        assert len(found) == 1, found
        (trouble,) = found
        assert said in trouble["reason"]
        assert "LEADS_BROKER_URL" in trouble["reason"]
        assert PASSWORD not in trouble["reason"]

    broken.mend()
    mails = await wait_for(house.inbox, 2, lead_id=answer.json["id"])
    assert {mail.kind for mail in mails} == {"prospect", "staff"}
    rabbit_node.delete_vhost(vhost)
