"""What `leads doctor` says of SendGrid, asked for real over HTTP and in sandbox mode: nothing is ever sent."""

from collections.abc import AsyncIterator

import pytest

from services.cli.doctor import mail
from services.cli.doctor.clock import check_clock
from services.cli.doctor.mail import check_mail
from services.cli.doctor.report import State, exit_status
from services.notifier.transport import Timeouts
from tests.harness.doctor import findings_of, the_one
from tests.harness.sendgrid import SendGridStandIn
from tests.harness.sizes import mail_through

KEY = "SG.a-key-of-the-tests"


@pytest.fixture
async def sendgrid() -> AsyncIterator[SendGridStandIn]:
    async with SendGridStandIn() as sendgrid:
        yield sendgrid
        assert sendgrid.received == [], "the doctor sends nothing"


def settings(sendgrid: SendGridStandIn, **more: str) -> dict[str, str]:
    return {
        **mail_through(sendgrid),
        "LEADS_MAIL_FROM": "hiring@your-company.com",
        "LEADS_PUBLIC_URL": "https://leads.your-company.com",
        **more,
    }


async def test_a_key_and_a_sender_that_are_taken_are_well(sendgrid):
    assert [finding.state for finding in await findings_of(check_mail, settings(sendgrid))] == [State.OK]
    assert sendgrid.sandboxed == 1


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ("401", "SENDGRID_API_KEY"),
        ("403", "LEADS_MAIL_FROM is a verified sender and that SENDGRID_API_KEY may send mail"),
        ("404", "SENDGRID_BASE_URL"),
        ("500", "SENDGRID_BASE_URL"),
        ("garbage", "SENDGRID_BASE_URL"),
    ],
)
async def test_each_refusal_names_the_setting_to_change(sendgrid, behaviour, said):
    sendgrid.behave(behaviour)
    found = await the_one(check_mail, settings(sendgrid), State.FAILED)
    assert said in found.found
    assert KEY not in found.found + found.mend


async def test_a_sendgrid_that_does_not_answer_is_said_in_time(sendgrid, monkeypatch):
    monkeypatch.setattr(mail, "SHORT", Timeouts(connect_seconds=0.2, read_seconds=0.2, total_seconds=0.3))
    sendgrid.behave("hang")
    assert "SENDGRID_BASE_URL" in (await the_one(check_mail, settings(sendgrid), State.FAILED)).found


async def test_a_sendgrid_that_is_not_there_is_said(sendgrid):
    found = await the_one(check_mail, settings(sendgrid, SENDGRID_BASE_URL="http://127.0.0.1:1"), State.FAILED)
    assert "could not be reached" in found.found
    assert "SENDGRID_BASE_URL" in found.mend


async def test_throttling_passes_and_is_a_warning(sendgrid):
    sendgrid.behave("429", seconds=5)
    assert exit_status(await findings_of(check_mail, settings(sendgrid))) == 0


async def test_a_request_that_sendgrid_finds_wrong_names_the_addresses(sendgrid):
    found = await the_one(check_mail, settings(sendgrid, LEADS_MAIL_REPLY_TO="nobody"), State.FAILED)
    assert "LEADS_MAIL_REPLY_TO" in found.mend


async def test_the_example_sender_and_a_link_to_this_machine_are_said(sendgrid):
    some = {name: value for name, value in settings(sendgrid).items() if name.startswith("SENDGRID")}
    found = await findings_of(check_mail, {**some, "LEADS_STAFF_EMAIL": "staff@leads.example"})
    assert [(finding.state, finding.mend) for finding in found if finding.mend] == [
        (State.FAILED, "Set LEADS_MAIL_FROM to a sender that SendGrid has verified."),
        (State.WARNING, "Set LEADS_PUBLIC_URL to the address that staff use."),
    ]


async def test_a_key_that_is_missing_and_a_url_of_no_kind_are_named():
    missing = {"LEADS_MAIL_URL": "sendgrid://", "LEADS_STAFF_EMAIL": "staff@leads.example"}
    found = [finding.found for finding in await findings_of(check_mail, missing) if finding.state is State.FAILED]
    assert any("SENDGRID_API_KEY is not set" in text for text in found)
    found = await the_one(check_mail, {"LEADS_MAIL_URL": "smtp://mail"}, State.FAILED)
    assert "LEADS_MAIL_URL must be sendgrid://" in found.found


@pytest.mark.parametrize(
    ("ahead_seconds", "state"), [(0, State.OK), (20, State.WARNING), (-20, State.WARNING), (300, State.FAILED)]
)
async def test_the_clock_is_compared_with_sendgrids(sendgrid, ahead_seconds, state):
    sendgrid.clock_ahead_seconds = ahead_seconds
    found = await the_one(check_clock, settings(sendgrid), state)
    assert "SendGrid" in found.found
    if ahead_seconds:
        assert ("behind" if ahead_seconds > 0 else "ahead of") in found.found
