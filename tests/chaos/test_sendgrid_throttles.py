"""After a 429 SendGrid hears nothing before the reset it named, however many e-mails wait, and then one at first."""

import pytest

from shared.topology import DEFAULT_RETRY_DELAYS_SECONDS
from tests.chaos.notifier import CONCURRENCY, events, notifying, until
from tests.chaos.rig import IS_LONG
from tests.chaos.verdicts import Figure
from tests.harness.sendgrid import SendGridStandIn

LEADS = 1_000 if IS_LONG else 50
THROTTLES = 5 if IS_LONG else 1
RESET_SECONDS = 2
ON_THE_WAY_SECONDS = 0.1
"""Requests that had left when the answer came are no new calls."""


@pytest.mark.long
async def test_nothing_is_sent_between_a_429_and_its_reset(tmp_path, verdicts):
    throttled_at: list[float] = []
    async with (
        SendGridStandIn() as sendgrid,
        notifying(tmp_path, sendgrid, retry_delays_seconds=DEFAULT_RETRY_DELAYS_SECONDS) as notifier,
    ):
        await notifier.publish(events(LEADS))
        for number in range(THROTTLES):
            accepted = number * LEADS // THROTTLES
            await until(lambda accepted=accepted: len(sendgrid.received) >= accepted, 60)
            before = sendgrid.requests
            sendgrid.behave("429", seconds=RESET_SECONDS)
            await until(lambda before=before: sendgrid.requests > before)
            throttled_at.append(sendgrid.requested_at[before])
            await until(lambda: notifier.circuit.reason is not None)
            sendgrid.behave("accept")
            await until(lambda: notifier.circuit.reason is None)
        seconds = await notifier.settled(2 * LEADS, within_seconds=60)
        rows = await notifier.emails()

    too_early = [
        at
        for first in throttled_at
        for at in sendgrid.requested_at
        if first + ON_THE_WAY_SECONDS < at < round(first + RESET_SECONDS)
    ]
    print(f"{THROTTLES} throttles of {RESET_SECONDS} s in {2 * LEADS} e-mails, all sent {seconds:.1f} s after the last")
    verdicts.figures.append(Figure("embedded", "new calls between a 429 and its reset", "0", str(len(too_early))))
    assert too_early == []
    assert set(sendgrid.accepted_by_email_id.values()) == {1}
    assert sendgrid.requests <= len(sendgrid.received) + THROTTLES * 2 * CONCURRENCY, "what was under way, no more"
    assert max(row.attempts for row in rows) <= 1 + THROTTLES
