"""kill -9 of any room at any moment under load: what was answered with 201 is all there, and nothing is half.

`LEADS_CHAOS=long` kills 504 times in 21,000 leads over both sizes.
"""

import pytest

from tests.chaos.rig import IN_HAND, IS_LONG, Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

LEADS = 3_500 if IS_LONG else 400
KILLS = 84 if IS_LONG else 1


@pytest.mark.timeout(0 if IS_LONG else 120)
@pytest.mark.parametrize("room", ["storage", "notifier", "api"])
async def test_kill_9_of_a_room_loses_nothing(rig: Rig, room: str):
    async def kill() -> None:
        await rig.kill(room)

    in_hand = IN_HAND * KILLS if room == "notifier" else 0
    await rig.run(
        f"kill -9 of the {room}", rig.at_random(kill, times=KILLS, leads=LEADS), leads=LEADS, repeated=in_hand
    )
