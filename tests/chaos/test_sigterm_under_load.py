"""SIGTERM of any process while clients post: what was begun is answered, none who is heard is cut off, exit 0 in time.

`LEADS_CHAOS=long` does so 51 times. What a client sees is counted by what kind of client it is: RFC 9112,
section 9.5, leaves one error open, to those who write to a connection in the moment in which its silence ends it.
"""

import asyncio
import os
import random
import secrets
import time
from collections import Counter, defaultdict

import aiohttp
import pytest
import pytest_asyncio

from shared.graceful import LAME_DUCK_SECONDS
from tests.chaos.verdicts import Figure, Verdicts
from tests.harness.client import Client
from tests.harness.deployment import ROOMS
from tests.harness.files import pdf
from tests.harness.kept import rows
from tests.harness.sizes import EMBEDDED, House, embedded

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long]

IS_LONG = os.environ.get("LEADS_CHAOS") == "long"
STOPS = 17 if IS_LONG else 1
"""Of each room: 51 in all."""
STOP_SECONDS = 10.0
SETTINGS = {"LEADS_LOG_LEVEL": "WARNING", "LEADS_RETRY_DELAYS_SECONDS": "[0.2,0.4,1]"}
KINDS = {"kept": 6, "new": 6, "seldom": 4}
"""Sixteen clients: on kept-alive connections, on a new one for each lead, and on kept-alive ones that are often silent
for longer than a room that stops waits for."""

PAUSE_SECONDS = {"kept": LAME_DUCK_SECONDS / 5, "new": LAME_DUCK_SECONDS / 5, "seldom": 3 * LAME_DUCK_SECONDS}
RESUME = pdf(2_000)


class Load:
    """Sixteen clients that post one lead after another, and what became of each."""

    def __init__(self, url: str, dice: random.Random) -> None:
        self.accepted: set[str] = set()
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """By kind of client; `cut` is no answer on a connection that there was."""
        self._url = url
        self._dice = dice
        self._over = asyncio.Event()
        self._numbers = iter(range(10**9))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as clients:
            for kind, count in KINDS.items():
                for _ in range(count):
                    clients.create_task(self._client(kind))

    async def reaches(self, accepted: int) -> None:
        while len(self.accepted) < accepted:
            await asyncio.sleep(0.01)

    def end(self) -> None:
        self._over.set()

    async def _client(self, kind: str) -> None:
        headers = {"Connection": "close"} if kind == "new" else {}
        answered_at = time.monotonic()
        async with Client(self._url) as client:
            while not self._over.is_set():
                silent_seconds = time.monotonic() - answered_at
                outcome = await self._post(client, f"{kind}{next(self._numbers)}@example.com", headers)
                if outcome == "cut" and kind != "new" and silent_seconds >= LAME_DUCK_SECONDS:
                    outcome = "cut after silence"
                answered_at = time.monotonic()
                self.outcomes[kind, outcome] += 1
                await asyncio.sleep(self._dice.choice((0.0, PAUSE_SECONDS[kind])))

    async def _post(self, client: Client, email: str, headers: dict[str, str]) -> str:
        try:
            answer = await client.post_lead(email, RESUME, headers=headers)
        except aiohttp.ClientConnectorError:
            return "nobody listens"
        except (aiohttp.ClientError, TimeoutError):
            return "cut"
        if answer.status == 201:
            self.accepted.add(email)
        return str(answer.status)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory):
    async with embedded(tmp_path_factory.mktemp("house"), SETTINGS) as house:
        yield house


async def stop_under_load(house: House, load: Load, room: str, dice: random.Random) -> float:
    """How long the room took to its exit with status 0, in seconds."""
    await load.reaches(len(load.accepted) + sum(KINDS.values()))
    await asyncio.sleep(dice.uniform(0, 0.1))
    began_at = time.monotonic()
    status = await house.deployment.stop(room)
    took_seconds = time.monotonic() - began_at
    await house.deployment.restart(room)
    assert status == 0, f"{room} ended with {status}"
    return took_seconds


def report(load: Load, took_seconds: dict[str, list[float]]) -> str:
    longest = ", ".join(f"{room} {max(seconds):.2f} s" for room, seconds in took_seconds.items())
    by_kind = {kind: {out: n for (of, out), n in sorted(load.outcomes.items()) if of == kind} for kind in KINDS}
    return "\n".join(
        [
            f"SIGTERM under load, {STOPS} of each room; longest stop: {longest}",
            *(f"  {kind:<7}{outcomes}" for kind, outcomes in by_kind.items()),
        ]
    )


async def until_all_mail_is_sent(house: House) -> None:
    deployment = house.deployment
    leads = rows(deployment.leads_db, "SELECT count(*) FROM leads")[0][0]
    async with asyncio.timeout(60 + leads / 50):
        while rows(deployment.notifier_db, "SELECT count(*) FROM emails WHERE lower(state) = 'sent'")[0][0] < 2 * leads:
            await asyncio.sleep(0.1)


@pytest.mark.timeout(0 if IS_LONG else 120)
async def test_rooms_that_are_told_to_stop_under_load_cut_nobody_off_and_end_in_time(house: House, verdicts: Verdicts):
    seed = int(os.environ.get("LEADS_CHAOS_SEED", secrets.randbelow(10**6)))
    dice = random.Random(seed)
    load = Load(house.deployment.api_url, dice)
    took_seconds: dict[str, list[float]] = defaultdict(list)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run())
        for room in ROOMS * STOPS:
            took_seconds[room].append(await stop_under_load(house, load, room, dice))
        load.end()
    print(f"\n{report(load, took_seconds)} (LEADS_CHAOS_SEED={seed})")

    longest = max(map(max, took_seconds.values()))
    cut = sum(count for (_, outcome), count in load.outcomes.items() if outcome == "cut")
    measured = f"{longest:.1f} s at most, {cut} of {len(load.accepted):,} leads"
    promise = f"SIGTERM under load, {STOPS * len(ROOMS)} times: exit, clients cut off"
    verdicts.figures.append(Figure(EMBEDDED, promise, f"<= {STOP_SECONDS:.0f} s, 0", measured))

    kept = {email for (email,) in rows(house.deployment.leads_db, "SELECT email FROM leads")}
    assert kept == load.accepted, "a lead that is there was answered, and one that was answered is there"
    assert {outcome for _, outcome in load.outcomes} <= {"201", "503", "nobody listens", "cut after silence"}
    assert longest < STOP_SECONDS
    await until_all_mail_is_sent(house)
