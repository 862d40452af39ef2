"""One Idempotency-Key, twenty times at once, while the api is killed and stopped: one lead, and its answer for all.

`LEADS_CHAOS=long` does so with 500 keys.
"""

import asyncio
import os
import random
import secrets
from collections import Counter

import aiohttp
import pytest
import pytest_asyncio

from tests.chaos.verdicts import Figure, Verdicts
from tests.harness import kept
from tests.harness.client import Client
from tests.harness.files import pdf
from tests.harness.sizes import EMBEDDED, House, embedded

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long]

IS_LONG = os.environ.get("LEADS_CHAOS") == "long"
KEYS = 500 if IS_LONG else 15
AT_ONCE = 20
KEYS_IN_HAND = 5
RESTARTS = 10 if IS_LONG else 1
"""Of each kind: kill -9 and SIGTERM."""

GRACE_SECONDS = 2.0
SETTINGS = {
    "LEADS_LOG_LEVEL": "WARNING",
    "LEADS_RETRY_DELAYS_SECONDS": "[0.2,0.4,1]",
    "LEADS_ORPHAN_GRACE_SECONDS": str(GRACE_SECONDS),
    "LEADS_SWEEP_INTERVAL_SECONDS": "0.3",
}
RETRY_SECONDS = (0.02, 0.2)
RESUME = pdf(2_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory):
    async with embedded(tmp_path_factory.mktemp("house"), SETTINGS) as house:
        yield house


class Twenties:
    """Clients that each send one request, again and again with its key until it is answered for good."""

    def __init__(self, url: str, dice: random.Random) -> None:
        self.leads: dict[str, set[str]] = {}
        """The leads that were named in answers, by key."""
        self.answers: Counter[str] = Counter()
        self.answered_keys = 0
        self._url = url
        self._dice = dice

    async def run(self) -> None:
        keys = iter(f"key-{number}" for number in range(KEYS))
        async with asyncio.TaskGroup() as clients:
            for _ in range(KEYS_IN_HAND):
                clients.create_task(self._keys(keys))

    async def _keys(self, keys) -> None:
        async with Client(self._url) as client:
            for key in keys:
                await asyncio.gather(*(self._until_answered(client, key) for _ in range(AT_ONCE)))
                self.answered_keys += 1

    async def _until_answered(self, client: Client, key: str) -> None:
        while (lead := await self._try(client, key)) is None:
            await asyncio.sleep(self._dice.uniform(*RETRY_SECONDS))
        self.leads.setdefault(key, set()).add(lead)

    async def _try(self, client: Client, key: str) -> str | None:
        try:
            answer = await client.post_lead(f"{key}@example.com", RESUME, headers={"Idempotency-Key": key})
        except (aiohttp.ClientError, TimeoutError):
            self.answers["none"] += 1
            return None
        self.answers[str(answer.status)] += 1
        assert answer.status in {201, 503}, answer.json
        return answer.json["id"] if answer.status == 201 else None


async def restart_in_the_middle(house: House, twenties: Twenties, dice: random.Random) -> None:
    deployment = house.deployment
    restarts = ["kill -9", "SIGTERM"] * RESTARTS
    for number, how in enumerate(restarts, start=1):
        while twenties.answered_keys < number * KEYS // (len(restarts) + 1):
            await asyncio.sleep(0.005)
        await asyncio.sleep(dice.uniform(0, 0.2))
        if how == "SIGTERM":
            await deployment.stop("api")
        else:
            deployment.kill("api")
        await deployment.restart("api")


@pytest.mark.timeout(0 if IS_LONG else 120)
async def test_twenty_requests_with_one_key_at_once_are_one_lead_across_restarts(house: House, verdicts: Verdicts):
    seed = int(os.environ.get("LEADS_CHAOS_SEED", secrets.randbelow(10**6)))
    dice = random.Random(seed)
    deployment = house.deployment
    twenties = Twenties(deployment.api_url, dice)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(twenties.run())
        tasks.create_task(restart_in_the_middle(house, twenties, dice))
    print(
        f"\n{KEYS} keys, {AT_ONCE} times at once, {RESTARTS} kill -9 and {RESTARTS} SIGTERM of the api: "
        f"answers {dict(twenties.answers)} (LEADS_CHAOS_SEED={seed})"
    )

    found = kept.rows(deployment.leads_db, "SELECT email, id, resume_path FROM leads")
    promise = f"one key {AT_ONCE} times at once, {2 * RESTARTS} restarts: leads of {KEYS} keys"
    verdicts.figures.append(Figure(EMBEDDED, promise, str(KEYS), str(len(found))))
    leads = {email.partition("@")[0]: {lead} for email, lead, _ in found}
    assert (len(found), leads) == (KEYS, twenties.leads), "one lead for each key, and the one that all were told of"
    assert kept.event_rows(deployment) == KEYS
    async with asyncio.timeout(GRACE_SECONDS + 30):
        while kept.blobs(deployment) != {resume for _, _, resume in found}:
            await asyncio.sleep(0.1)
