"""kill -9 of any room at any moment under load: what was answered with 201 is all there, and nothing is half.

`LEADS_CHAOS=long` kills 504 times in 21,000 leads over both sizes.
"""

import itertools

import pytest

from tests.chaos.rig import IN_HAND, IS_LONG, OTHER_SIZES, Rig
from tests.harness.deployment import ROOMS
from tests.harness.sizes import ON_MARIADB

pytestmark = pytest.mark.asyncio(loop_scope="module")

LEADS = 10_500 if IS_LONG else 400
KILLS = 252 if IS_LONG else 3


@pytest.mark.long
@pytest.mark.timeout(0 if IS_LONG else 120)
async def test_kill_9_of_any_room_loses_nothing(rig: Rig):
    await kill_at_random(rig)


@pytest.mark.timeout(0 if IS_LONG else 120)
@pytest.mark.parametrize(
    "rig", [pytest.param(ON_MARIADB, marks=OTHER_SIZES[ON_MARIADB])], indirect=True, scope="module"
)
async def test_kill_9_of_any_room_loses_nothing_on_mariadb_either(rig: Rig):
    await kill_at_random(rig)


async def kill_at_random(rig: Rig) -> None:
    turns = itertools.cycle(ROOMS)

    async def kill_the_next() -> None:
        await rig.kill(next(turns))

    nemesis = rig.at_random(kill_the_next, times=KILLS, leads=LEADS)
    await rig.run("kill -9 of any room at any moment", nemesis, leads=LEADS, repeated=IN_HAND * KILLS // len(ROOMS))
