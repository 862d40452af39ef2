"""What `send_email` and the transports decide before and after the wire: payload, bounds, reasons, settings."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp.http import StreamWriter

from services.notifier.email import (
    EmailMessage,
    Sender,
    _Body,
    _retry_after_seconds,
    payload,
    without_addresses,
)
from services.notifier.transport import transport_for
from shared.ids import new_id

SENDER = Sender("leads@example.com", "Leads, Inc.", "office@example.com")


def a_message(**changes: object) -> EmailMessage:
    given = {
        "id": new_id(),
        "to": ("ann@example.org",),
        "to_name": "Ann O'Brien",
        "subject": "Thank you",
        "html": "<p>Hello</p>",
        "text": "Hello",
        "custom_args": {"lead_id": new_id()},
        "categories": ("prospect",),
    }
    return EmailMessage(**{**given, **changes})


@pytest.mark.parametrize("name", ["{{7*7}}", "${7*7}", "-first_name-", "%name%", "<%= 7*7 %>"])
async def test_nothing_that_sendgrid_would_evaluate_is_asked_for(name):
    document = payload(a_message(text=name, html=name, subject=name, to_name="Ann"), SENDER)
    assert [part["value"] for part in document["content"]] == [name, name]
    assert document["subject"] == name
    assert not {"template_id", "sections", "substitutions", "asm", "mail_settings"} & document.keys()
    assert document["personalizations"] == [{"to": [{"email": "ann@example.org", "name": "Ann"}]}]


def test_a_reason_is_one_short_line_without_addresses():
    said = "We found [ann@example.org] twice\r\n" + "x" * 1000
    assert without_addresses(said).startswith("We found [address] twice x")
    assert len(without_addresses(said)) == 300


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 60),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "7", "X-RateLimit-Reset": "1"}, 7),
        ({"Retry-After": "soon"}, 60),
        ({"X-RateLimit-Reset": "nan"}, 60),
        ({"X-RateLimit-Reset": "1392815263"}, 1),
        ({"X-RateLimit-Reset": "1392815263", "Date": "Wed, 19 Feb 2014 13:07:03 GMT"}, 40),
        ({"Retry-After": "Wed, 19 Feb 2014 13:07:43 GMT", "Date": "Wed, 19 Feb 2014 13:07:03 GMT"}, 40),
        ({"X-RateLimit-Reset": "9" * 30}, 900),
        ({"Retry-After": "9" * 400}, 900),
    ],
)
def test_the_time_to_wait_is_read_within_bounds(headers, seconds):
    assert _retry_after_seconds(headers) == seconds


def test_the_time_to_wait_may_be_a_date():
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 85 <= _retry_after_seconds({"Retry-After": at}) <= 90


@pytest.mark.parametrize(("closing", "was_sent"), [(True, False), (False, True)])
async def test_a_connection_that_is_known_to_be_closing_gets_no_byte(closing, was_sent):
    written: list[bytes] = []
    wire = SimpleNamespace(is_closing=lambda: closing, write=written.append, writelines=written.extend)
    writer = StreamWriter(SimpleNamespace(transport=wire, _paused=False), asyncio.get_running_loop())
    body = _Body(b"{}", content_type="application/json")
    if closing:
        with pytest.raises(aiohttp.ClientConnectionResetError):
            await body.write_with_length(writer, 2)
    else:
        await body.write_with_length(writer, 2)
    assert body.was_sent is was_sent
    assert bool(written) is was_sent


def test_a_message_prints_without_its_content():
    shown = repr(a_message())
    assert "ann@" not in shown
    assert "Hello" not in shown


@pytest.mark.parametrize(
    "url",
    [
        "smtp://localhost",
        "",
        "file://",
        "file:///",
        "file://host/x",
        "file:///x?y",
        "sendgrid://SG.secret@x",
        "mailbox",
    ],
)
def test_another_mail_url_is_refused_in_one_line_without_repeating_it(url):
    with pytest.raises(ValueError, match="LEADS_MAIL_URL must be") as caught:
        transport_for(url, sender=SENDER, api_key="SG.k")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("api_key", "base_url", "named"),
    [(" ", "https://x.test", "SENDGRID_API_KEY"), ("SG.k", "x.test", "SENDGRID_BASE_URL")],
)
def test_what_sendgrid_needs_is_asked_for_by_name(api_key, base_url, named):
    with pytest.raises(ValueError, match=named):
        transport_for("sendgrid://", sender=SENDER, api_key=api_key, base_url=base_url)


def test_the_payload_is_plain_json():
    assert json.loads(json.dumps(payload(a_message(to_name="محمد 😀"), SENDER)))["subject"] == "Thank you"
