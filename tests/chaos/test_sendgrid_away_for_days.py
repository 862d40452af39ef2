"""SendGrid is away for 72 hours: no e-mail is lost or doubled, and none becomes a dead letter for it.

The clock is scaled, by the retry delays and the circuit's pauses, and the outage is as long as the tries that 72 hours
make: a busy machine takes longer for them. The system's own clock made faster (libfaketime) is no use here: at 3,600
times its pace the 20 s that SendGrid has for an answer are over in 5.6 ms.
"""

import asyncio
from collections import Counter

import pytest

from services.notifier.circuit import CircuitPolicy
from shared.topology import DEFAULT_RETRY_DELAYS_SECONDS
from tests.chaos.notifier import events, notifying
from tests.chaos.rig import IS_LONG
from tests.chaos.verdicts import Figure
from tests.harness.sendgrid import SendGridStandIn

FASTER = 3_600.0
"""An hour of the system's pauses is a second here."""

HOURS_AWAY = 72.0 if IS_LONG else 0.5
TRIES = int(HOURS_AWAY * 3600 / CircuitPolicy.longest_pause_seconds)
LEADS = 40 if IS_LONG else 2
"""Few: the fewer wait, the more often each of them is the one that is tried."""


@pytest.mark.timeout(0 if IS_LONG else 60)
@pytest.mark.parametrize("how", ["answers 503", pytest.param("refuses connections", marks=pytest.mark.long)])
async def test_an_outage_of_days_burns_no_attempts_and_loses_nothing(tmp_path, verdicts, how):
    async with SendGridStandIn() as sendgrid:
        delays = [seconds / FASTER for seconds in DEFAULT_RETRY_DELAYS_SECONDS]
        async with notifying(tmp_path, sendgrid, faster=FASTER, retry_delays_seconds=delays) as notifier:
            await _go_away(sendgrid, how)
            await notifier.publish(events(LEADS))
            while sum(email.attempts for email in await notifier.emails()) < TRIES:
                assert (await notifier.stats()).dead == 0
                await asyncio.sleep(0.05)
            await _come_back(sendgrid, how)
            seconds = await notifier.settled(2 * LEADS, within_seconds=60)

    sent = Counter(sendgrid.accepted_by_email_id.values())
    print(f"{how} for {HOURS_AWAY:g} h: {TRIES} tries, no dead letter, {sent}, all sent {seconds:.1f} s after")
    promise = f"e-mails once, after {HOURS_AWAY:g} h in which SendGrid {how}"
    verdicts.figures.append(Figure("embedded", promise, str(2 * LEADS), str(sent[1])))
    assert sent == {1: 2 * LEADS}


async def _go_away(sendgrid: SendGridStandIn, how: str) -> None:
    if how == "answers 503":
        sendgrid.behave("503")
    else:
        await sendgrid.stop()


async def _come_back(sendgrid: SendGridStandIn, how: str) -> None:
    if how == "answers 503":
        sendgrid.behave("accept")
    else:
        await sendgrid.start()
