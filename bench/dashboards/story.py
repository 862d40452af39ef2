"""What happens while the dashboards are watched: leads all the time, a broker that dies, mail that is refused."""

import asyncio
import contextlib
import random
import time

from tests.harness.client import Client
from tests.harness.commands import leads
from tests.harness.files import pdf
from tests.harness.rabbitmq import RabbitNode
from tests.harness.sizes import House

WARM_UP_SECONDS = 12.0
LEADS_PER_SECOND = 6.0
SENT_TWICE = 0.08
"""The share of leads whose address was sent before, so that refusals show."""


async def live_through_troubles(house: House, node: RabbitNode) -> tuple[float, float]:
    """Returns the instants between which there is something to see."""
    posting = asyncio.create_task(_post_leads(house))
    try:
        await asyncio.sleep(WARM_UP_SECONDS)
        began_at = time.time()
        await _troubles(house, node)
        return began_at, time.time()
    finally:
        posting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await posting


async def _troubles(house: House, node: RabbitNode) -> None:
    assert house.sendgrid is not None
    await asyncio.sleep(25)
    node.kill()
    await asyncio.sleep(25)
    await asyncio.to_thread(node.start)
    await asyncio.sleep(20)
    house.sendgrid.behave("400", times=3)
    await asyncio.sleep(8)
    house.sendgrid.behave("500")
    await asyncio.sleep(22)
    house.sendgrid.behave("accept")
    await asyncio.sleep(30)
    await leads(house.deployment, "audit")
    await asyncio.sleep(20)


async def _post_leads(house: House) -> None:
    async with Client(house.deployment.api_url) as client, asyncio.TaskGroup() as posts:
        number = 0
        while True:
            number += random.random() > SENT_TWICE
            posts.create_task(client.post_lead(f"someone{number}@example.com", pdf(40_000, seed=number)))
            await asyncio.sleep(random.expovariate(LEADS_PER_SECOND))
