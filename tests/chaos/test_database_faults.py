"""Each database locked for ten seconds under load, as by a backup or a person with a shell: refused, and not lost.

How soon it is refused, and with which hint, is told by tests/e2e/test_commit_failure_is_never_201.py.
"""

import asyncio
import time

import pytest

from tests.chaos.rig import IS_LONG, Rig, on_sizes
from tests.chaos.storm import Storm
from tests.harness import kept
from tests.harness.sizes import AT_SCALE, EMBEDDED

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long]

LEADS = 2_000 if IS_LONG else 100
LOCKED_SECONDS = 10.0
AGAIN_SECONDS = 5.0


@pytest.mark.timeout(0 if IS_LONG else 120)
@on_sizes("name", {EMBEDDED: ("leads.db", "notifier.db", "queue.db"), AT_SCALE: ("leads.db", "notifier.db")})
async def test_a_database_that_is_locked_for_ten_seconds_loses_nothing(rig: Rig, name: str):
    database = rig.deployment.data / name
    again = [0.0]

    async def nemesis(storm: Storm) -> int:
        await storm.reaches(LEADS // 3)
        with kept.write_lock(database):
            await asyncio.sleep(LOCKED_SECONDS)
        let_go_at = time.monotonic()
        await storm.reaches(min(LEADS, storm.answered + storm.gave_up + 1))
        again[0] = time.monotonic() - let_go_at
        return 1

    storm = await rig.run(f"{name} locked for 10 s", nemesis, leads=LEADS)
    refused = sum(attempt.status == 503 for attempt in storm.ledger)
    rig.figure(f"{name} locked for 10 s: works again", "≤ 5 s", f"{again[0]:.2f} s, {refused} × 503")
    assert again[0] <= AGAIN_SECONDS
    assert (refused > 0) == (name == "leads.db"), "leads are taken while the bus or the notifier's database is locked"
