"""Whatever SendGrid does while leads come in: within a minute after it stopped, every e-mail is sent and nothing waits.

`LEADS_CHAOS=long` has every trouble, at the system's own pace: its time-outs, pauses and leases are those of real life.
"""

import asyncio

import pytest

from tests.chaos.rig import IS_LONG, Rig
from tests.chaos.storm import Storm
from tests.harness.sendgrid import Behaviour

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long, pytest.mark.timeout(0 if IS_LONG else 120)]

LEADS = 200 if IS_LONG else 60
TROUBLE_SECONDS = 25.0 if IS_LONG else 3.0
TAKEN_AND_NOT_SAID = {Behaviour.DROP_AFTER_ACCEPT, Behaviour.SLOW_HEADERS}
QUICK = ("429", "500", Behaviour.DROP_AFTER_ACCEPT)
ALL = ("429", "500", "503", "401", "403", *(set(Behaviour) - {Behaviour.ACCEPT, Behaviour.SLOW}))


@pytest.fixture(scope="module")
def rig(rig_with_sendgrid: Rig) -> Rig:
    return rig_with_sendgrid


@pytest.mark.parametrize("trouble", sorted(ALL if IS_LONG else QUICK))
async def test_every_email_is_sent_within_a_minute_of_the_end_of_any_trouble(rig: Rig, trouble: str):
    sendgrid = rig.house.sendgrid
    unsaid: list[int] = []
    """How many were taken, and their takers never told so."""

    async def nemesis(storm: Storm) -> int:
        await storm.reaches(LEADS // 4)
        taken_before = len(sendgrid.received)
        sendgrid.behave(trouble, seconds=2.0)
        await asyncio.sleep(TROUBLE_SECONDS)
        sendgrid.behave("accept")
        unsaid.append(len(sendgrid.received) - taken_before if trouble in TAKEN_AND_NOT_SAID else 0)
        return 1

    before = sum(sendgrid.accepted_by_email_id.values())
    storm = await rig.run(f"SendGrid {trouble}", nemesis, leads=LEADS, repeated=2 * LEADS)
    again = sum(sendgrid.accepted_by_email_id.values()) - before - 2 * LEADS
    rig.figure(f"e-mails sent again after {trouble}", f"<= {unsaid[0]} taken and not said", str(again))
    assert again <= unsaid[0]
    assert storm.gave_up == 0
