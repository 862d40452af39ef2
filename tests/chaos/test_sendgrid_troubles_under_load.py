"""Whatever SendGrid does while leads come in: within a minute after it stopped, every e-mail is sent and nothing waits.

`LEADS_CHAOS=long` has every trouble, at the system's own pace: its time-outs, pauses and leases are those of real life.
"""

import asyncio

import pytest
import pytest_asyncio

from tests.chaos.rig import IS_LONG, SETTINGS, Rig
from tests.chaos.storm import Storm
from tests.harness.sendgrid import Behaviour
from tests.harness.sizes import AT_SCALE, at_scale, with_sendgrid

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long, pytest.mark.timeout(0 if IS_LONG else 120)]

EMBEDDED_SENDGRID = "embedded-sendgrid"
LEADS = 200 if IS_LONG else 60
TROUBLE_SECONDS = 25.0 if IS_LONG else 3.0
TAKEN_AND_NOT_SAID = {Behaviour.DROP_AFTER_ACCEPT, Behaviour.SLOW_HEADERS}
QUICK = ("429", "500", Behaviour.DROP_AFTER_ACCEPT)
ALL = ("429", "500", "503", "401", "403", *(set(Behaviour) - {Behaviour.ACCEPT, Behaviour.SLOW}))


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[EMBEDDED_SENDGRID, pytest.param(AT_SCALE, marks=pytest.mark.rabbitmq)]
)
async def rig(request, tmp_path_factory, verdicts):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == AT_SCALE:
        async with at_scale(folder, request.getfixturevalue("rabbit_node"), SETTINGS) as house:
            yield Rig(house, AT_SCALE, verdicts)
    else:
        async with with_sendgrid(folder, SETTINGS) as house:
            yield Rig(house, EMBEDDED_SENDGRID, verdicts)


@pytest.mark.parametrize("trouble", sorted(ALL if IS_LONG else QUICK))
async def test_every_email_is_sent_within_a_minute_of_the_end_of_any_trouble(rig: Rig, trouble: str):
    sendgrid = rig.house.sendgrid

    async def nemesis(storm: Storm) -> int:
        await storm.reaches(LEADS // 4)
        sendgrid.behave(trouble, seconds=2.0)
        await asyncio.sleep(TROUBLE_SECONDS)
        sendgrid.behave("accept")
        return 1

    before = sum(sendgrid.accepted_by_email_id.values())
    storm = await rig.run(f"SendGrid {trouble}", nemesis, leads=LEADS, repeated=10**6)
    again = sum(sendgrid.accepted_by_email_id.values()) - before - 2 * LEADS
    rig.figure(f"e-mails sent again after {trouble}", "only what was taken and not said", str(again))
    assert again == 0 or trouble in TAKEN_AND_NOT_SAID
    assert storm.gave_up == 0
