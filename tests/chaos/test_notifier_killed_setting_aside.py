"""kill -9 of a notifier that sets events aside, for later or for good: no event is lost, and no mail comes twice.

A copy is kept before the original is let go: a death in between leaves both, and the second finds its mails sent.
"""

from signal import SIGKILL

import pytest

from tests.chaos.crashes import PAUSE_SECONDS, Crashes
from tests.chaos.rig import IS_LONG, Rig
from tests.chaos.storm import Storm
from tests.harness.commands import leads
from tests.harness.crash_points import CrashPoint
from tests.harness.crash_steps import SETTING_ASIDE

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(0 if IS_LONG else 600),
    pytest.mark.long,
]

PASSES = (1, 2) if IS_LONG else (2,)
"""More would have to wait: after five refusals in a row the notifier pauses."""
REPLAY = ("queues", "replay")


@pytest.fixture(scope="module")
def rig(rig_with_sendgrid: Rig) -> Rig:
    return rig_with_sendgrid


def points(verb: str) -> list[CrashPoint]:
    steps = [name for name in SETTING_ASIDE if name.startswith(verb)]
    return [CrashPoint("notifier", step, passes, SIGKILL) for step in steps for passes in PASSES]


async def test_an_event_put_off_while_sendgrid_is_away_is_handled_once(rig: Rig):
    sendgrid = rig.house.sendgrid
    assert sendgrid is not None
    crashes = Crashes(rig, points("retry"), heal=lambda: sendgrid.behave("accept"))
    sendgrid.behave("503")
    await rig.run(
        "SIGKILL of the notifier while it puts events off", crashes.nemesis, leads=None, pause_seconds=PAUSE_SECONDS
    )


async def test_events_that_were_given_up_are_replayed_by_one_command_and_handled_once(rig: Rig):
    sendgrid = rig.house.sendgrid
    assert sendgrid is not None
    crashes = Crashes(rig, points("dead letter"), heal=lambda: sendgrid.behave("accept"))

    async def nemesis(storm: Storm) -> int:
        deaths = await crashes.nemesis(storm)
        replayed = await leads(rig.deployment, *REPLAY)
        assert (replayed.status, replayed.errors) == (0, "")
        return deaths

    sendgrid.behave("400")
    await rig.run("SIGKILL of the notifier while it gives events up", nemesis, leads=None, pause_seconds=PAUSE_SECONDS)
