"""When attempts run out, each e-mail says so before its event is a dead letter; one command tries all of it again."""

from collections.abc import Mapping

import pytest

from services.notifier.delivery import MAY_BE_SENT, REPEATED
from services.notifier.tables import EmailKind, EmailState
from tests.chaos.notifier import RETRY_DELAYS_SECONDS, events, notifying
from tests.harness.sendgrid import SendGridStandIn
from tests.harness.sizes import AT_SCALE, EMBEDDED

LEADS = 5
ATTEMPTS = len(RETRY_DELAYS_SECONDS) + 1


@pytest.mark.parametrize("size", [EMBEDDED, pytest.param(AT_SCALE, marks=[pytest.mark.rabbitmq, pytest.mark.long])])
async def test_no_email_is_pending_once_its_event_is_a_dead_letter_and_a_replay_tries_again(tmp_path, request, size):
    broker_url = request.getfixturevalue("rabbit_url") if size == AT_SCALE else None

    def fail(custom_args: Mapping[str, str]) -> str:
        return "500" if custom_args["kind"] == EmailKind.STAFF else "drop_after_accept"

    async with (
        SendGridStandIn() as sendgrid,
        notifying(tmp_path, sendgrid, broker_url=broker_url, failures=1_000) as notifier,
    ):
        sendgrid.look = fail
        await notifier.publish(events(LEADS))
        await notifier.settled(0, within_seconds=30, dead=LEADS)
        rows, dead = await notifier.emails(), await notifier.bus.peek(notifier.queue, LEADS)
        sendgrid.look = None
        replayed = await notifier.bus.replay(notifier.queue)
        await notifier.settled(2 * LEADS, within_seconds=30)
        settled = await notifier.emails()

    assert {(row.kind, row.state, row.attempts) for row in rows} == {
        (EmailKind.STAFF, EmailState.FAILED, ATTEMPTS),
        (EmailKind.PROSPECT, EmailState.UNCERTAIN, ATTEMPTS),
    }
    assert all("staff e-mail: SendGrid answered 500" in (row.reason or "") for row in rows)
    assert all(f"(after {ATTEMPTS} attempts)" in (row.reason or "") for row in rows)
    assert all(MAY_BE_SENT in letter.reason for letter in dead)
    assert replayed == LEADS
    assert {(row.kind, row.reason) for row in settled} == {(EmailKind.STAFF, None), (EmailKind.PROSPECT, REPEATED)}
    copies = {row.kind: sendgrid.accepted_by_email_id[row.id] for row in settled}
    assert copies == {EmailKind.STAFF: 1, EmailKind.PROSPECT: ATTEMPTS + 1}
