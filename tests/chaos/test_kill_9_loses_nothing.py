"""kill -9 of any process in the middle of many leads: what was answered with 201 is all there, and nothing is half.

`LEADS_CHAOS=long` posts ten times as many leads and kills far more often; `LEADS_CHAOS_SEED` repeats the moments.
"""

import asyncio
import os
import random
import secrets

import pytest
import pytest_asyncio

from tests.chaos.checker import Verdict, check, table
from tests.chaos.collect import facts_at_rest
from tests.chaos.storm import Storm, run_with_kills
from tests.harness.sizes import AT_SCALE, EMBEDDED, House, at_scale, embedded

pytestmark = pytest.mark.asyncio(loop_scope="module")

IS_LONG = os.environ.get("LEADS_CHAOS") == "long"
LEADS = 5_000 if IS_LONG else 500
KILLS = 15 if IS_LONG else 1
PATIENCE_SECONDS = 120.0 if IS_LONG else 30.0
DOWN_SECONDS = (0.0, 0.4)
RETRY_DELAYS_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
SETTINGS = {
    "LEADS_RETRY_DELAYS_SECONDS": str(list(RETRY_DELAYS_SECONDS)),
    "LEADS_ORPHAN_GRACE_SECONDS": "3",
    "LEADS_SWEEP_INTERVAL_SECONDS": "0.3",
    "LEADS_LOG_LEVEL": "WARNING",
}
IN_HAND = 32
"""Most e-mails that one notifier can be sending when it is killed: 16 events, two each."""


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[EMBEDDED, pytest.param(AT_SCALE, marks=[pytest.mark.rabbitmq, pytest.mark.long])],
)
async def house(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == EMBEDDED:
        async with embedded(folder, SETTINGS) as house:
            yield house
    else:
        async with at_scale(folder, request.getfixturevalue("rabbit_node"), SETTINGS) as house:
            yield house


@pytest.fixture(scope="module")
def ledgers() -> dict[str, list]:
    """What clients did in the tests before, by deployment: everything is checked each time."""
    return {}


@pytest.mark.timeout(0 if IS_LONG else 120)
@pytest.mark.parametrize("victim", ["storage", "notifier", "api"])
async def test_kill_9_of_one_process_loses_nothing(house: House, ledgers, victim: str):
    seed = int(os.environ.get("LEADS_CHAOS_SEED", secrets.randbelow(10**6)))
    dice = random.Random(seed)
    deployment = house.deployment
    storm = Storm(deployment.api_url, victim, dice=dice)

    async def kill() -> None:
        deployment.kill(victim)
        await asyncio.sleep(dice.uniform(*DOWN_SECONDS))
        await deployment.restart(victim)

    await run_with_kills(storm, LEADS, kills=KILLS, dice=dice, kill=kill)
    if victim == "notifier":
        await kill()  # and once more while it works through what is left
    ledger = ledgers.setdefault(str(deployment.folder), [])
    ledger += storm.ledger
    facts = await facts_at_rest(house, ledger, RETRY_DELAYS_SECONDS, patience_seconds=PATIENCE_SECONDS)
    findings = check(facts)
    print(f"\nkill -9 of the {victim}, {KILLS} time(s) in {LEADS} leads (LEADS_CHAOS_SEED={seed})")
    print(table(facts, findings))

    assert storm.accepted == LEADS, "a repetition with the same key is answered like the first"
    repeated = [finding for finding in findings if finding.verdict is Verdict.REPEATED]
    assert [finding for finding in findings if finding.verdict is not Verdict.REPEATED] == []
    assert len(repeated) <= IN_HAND * (KILLS + 1)
