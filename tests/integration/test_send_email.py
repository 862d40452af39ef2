"""`send_email` against a real HTTP server: each way of going wrong is told truthfully, and nothing hangs."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from typing import Any

import pytest

from services.notifier.email import (
    Accepted,
    EmailMessage,
    MailError,
    MailRejected,
    MailThrottled,
    MailTransport,
    MailUnauthorized,
    MailUnavailable,
    MailUncertain,
    Sender,
)
from services.notifier.transport import DEFAULT_CONCURRENT_SENDS, Timeouts, transport_for
from shared.ids import new_id
from tests.harness.sendgrid import SendGridStandIn

SENDER = Sender("leads@example.com", "Leads, Inc.", "office@example.com")
FAST = Timeouts(connect_seconds=0.5, read_seconds=0.5, total_seconds=1.0)


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


@pytest.fixture
async def sendgrid() -> AsyncIterator[SendGridStandIn]:
    async with SendGridStandIn() as stand_in:
        yield stand_in


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., MailTransport]]:
    """Makes transports, and closes them however the test ends."""
    opened: list[MailTransport] = []

    def make(base_url: str, *, api_key: str = "SG.k.k\n", **more: Any) -> MailTransport:
        given = {"sender": SENDER, "api_key": api_key, "base_url": base_url, "timeouts": FAST, **more}
        opened.append(transport_for("sendgrid://", **given))
        return opened[-1]

    yield make
    for transport in opened:
        await transport.close()


@pytest.fixture
def transport(sendgrid: SendGridStandIn, connect: Callable[..., MailTransport]) -> MailTransport:
    return connect(sendgrid.base_url)


async def test_an_accepted_email_arrives_as_it_was_written(sendgrid, transport):
    message = a_message(to=("ann@example.org", "bob@example.org"))
    accepted = await transport.send(message)
    (mail,) = sendgrid.received
    assert accepted == Accepted(mail.message_id)
    assert mail.payload == {
        "personalizations": [
            {
                "to": [
                    {"email": "ann@example.org", "name": "Ann O'Brien"},
                    {"email": "bob@example.org", "name": "Ann O'Brien"},
                ]
            }
        ],
        "from": {"email": "leads@example.com", "name": "Leads Inc."},
        "reply_to": {"email": "office@example.com"},
        "subject": "Thank you",
        "content": [{"type": "text/plain", "value": "Hello"}, {"type": "text/html", "value": "<p>Hello</p>"}],
        "custom_args": {"lead_id": message.custom_args["lead_id"], "email_id": message.id},
        "categories": ["prospect"],
        "headers": {"Auto-Submitted": "auto-generated"},
        "tracking_settings": {
            "click_tracking": {"enable": False, "enable_text": False},
            "open_tracking": {"enable": False},
            "subscription_tracking": {"enable": False},
            "ganalytics": {"enable": False},
        },
    }


async def test_a_name_cannot_add_a_header_or_a_recipient(sendgrid, transport):
    hostile = 'Ann\r\nBcc: x@evil.test\u2028, "y" <z@evil.test>; \u202etset'
    await transport.send(a_message(to_name=hostile, subject="Hi\r\nBcc: x@evil.test\x00"))
    (mail,) = sendgrid.received
    assert mail.to == ["ann@example.org"]
    assert mail.payload["personalizations"][0]["to"][0]["name"] == "Ann Bcc: x@evil.test y z@evil.test tset"
    assert mail.payload["subject"] == "Hi Bcc: x@evil.test"


@pytest.mark.parametrize("address", ["a b@c.test", "a@b.test, c@d.test", "Ann <a@b.test>", "a@b.test\n", ""])
async def test_an_address_that_cannot_be_sent_to_is_refused_for_good_without_asking(sendgrid, transport, address):
    with pytest.raises(MailRejected):
        await transport.send(a_message(to=(address,)))
    assert sendgrid.requests == 0


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("400", MailRejected),
        ("413", MailRejected),
        ("415", MailRejected),
        ("401", MailUnauthorized),
        ("403", MailUnauthorized),
        ("429", MailThrottled),
        ("404", MailUnavailable),
        ("301", MailUnavailable),
        ("408", MailUnavailable),
        ("500", MailUnavailable),
        ("503", MailUnavailable),
        ("200", MailUncertain),
    ],
)
async def test_each_status_is_told_for_what_it_means(sendgrid, transport, status, error):
    sendgrid.behave(status)
    with pytest.raises(MailError) as caught:
        await transport.send(a_message())
    assert type(caught.value) is error
    assert status in caught.value.reason
    assert sendgrid.received == []


async def test_a_refused_key_names_the_setting_and_repeats_what_sendgrid_said(sendgrid, connect):
    transport = connect(sendgrid.base_url, api_key="not-a-key")
    with pytest.raises(MailUnauthorized, match=r"authorization grant is invalid.*SENDGRID_API_KEY") as caught:
        await transport.send(a_message())
    assert "not-a-key" not in caught.value.reason


@pytest.mark.parametrize(
    ("status", "settings"),
    [("401", {"SENDGRID_API_KEY"}), ("403", {"SENDGRID_API_KEY", "LEADS_MAIL_FROM"}), ("404", {"SENDGRID_BASE_URL"})],
)
async def test_what_only_a_setting_can_mend_names_it(sendgrid, transport, status, settings):
    sendgrid.behave(status)
    with pytest.raises(MailError) as caught:
        await transport.send(a_message())
    assert {
        name for name in ("SENDGRID_API_KEY", "LEADS_MAIL_FROM", "SENDGRID_BASE_URL") if name in str(caught.value)
    } == (settings)


async def test_a_rejection_says_why_and_names_no_address(sendgrid, transport):
    with pytest.raises(MailRejected, match="content value must be a string") as caught:
        await transport.send(a_message(text="", html=""))
    assert "@" not in caught.value.reason


async def test_a_throttle_lasts_until_the_reset(sendgrid, transport):
    sendgrid.behave("429", seconds=30)
    with pytest.raises(MailThrottled) as caught:
        await transport.send(a_message())
    assert 27 <= caught.value.retry_after_seconds <= 31


async def test_nobody_listening_is_unavailable(connect):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        base_url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        transport = connect(base_url)
        with pytest.raises(MailUnavailable):
            await transport.send(a_message())


async def test_a_connection_that_does_not_come_up_is_unavailable_and_does_not_hang(connect):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        base_url = f"http://127.0.0.1:{full.getsockname()[1]}"
        transport = connect(base_url)
        began = time.monotonic()
        with pytest.raises(MailUnavailable):
            await transport.send(a_message())
        assert time.monotonic() - began < 2
        for one in waiting:
            one.close()


async def test_a_202_is_an_answer_though_its_body_never_ends(sendgrid, transport):
    sendgrid.behave("endless_body")
    async with asyncio.timeout(1):
        accepted = await transport.send(a_message())
    assert accepted == Accepted(sendgrid.received[0].message_id)
    sendgrid.behave("accept")
    await transport.send(a_message())


@pytest.mark.parametrize("ahead_seconds", [-86_400, 3_600])
async def test_a_throttle_lasts_until_their_reset_whatever_our_own_clock_says(raw_server, connect, ahead_seconds):
    their_now = time.time() + ahead_seconds
    told = f"Date: {formatdate(their_now, usegmt=True)}\r\nX-RateLimit-Reset: {round(their_now) + 30}\r\n"

    async def throttle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 429 Too Many Requests\r\n{told}Content-Length: 0\r\n\r\n".encode())
        await writer.drain()

    transport = connect(await raw_server(throttle))
    with pytest.raises(MailThrottled) as caught:
        await transport.send(a_message())
    assert 29 <= caught.value.retry_after_seconds <= 31


@pytest.mark.parametrize(
    ("behaviour", "accepted"),
    [("hang", 0), ("drop_before", 0), ("drop_after_accept", 1), ("garbage", 0), ("slow_headers", 1)],
)
async def test_a_request_that_was_sent_and_not_answered_is_uncertain(sendgrid, transport, behaviour, accepted):
    sendgrid.behave(behaviour, seconds=0.1)
    began = time.monotonic()
    with pytest.raises(MailUncertain):
        await transport.send(a_message())
    assert time.monotonic() - began < 2
    assert len(sendgrid.received) == accepted


async def test_an_answer_that_trickles_in_does_not_outlast_the_total_timeout(raw_server, connect):
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 202 Accepted\r\nX-Slow: ")
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.1)

    transport = connect(await raw_server(trickle))
    began = time.monotonic()
    with pytest.raises(MailUncertain):
        await transport.send(a_message())
    assert time.monotonic() - began < 2.5


async def test_a_rejection_whose_explanation_breaks_off_is_still_a_rejection(raw_server, connect):
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 500\r\n\r\n{")
        await writer.drain()

    transport = connect(await raw_server(break_off))
    with pytest.raises(MailRejected, match="400"):
        await transport.send(a_message())


async def test_a_slow_answer_within_the_timeout_is_an_answer(sendgrid, transport):
    sendgrid.behave("slow", seconds=0.2)
    assert (await transport.send(a_message())).message_id


async def test_waiting_for_a_turn_is_not_a_timeout(sendgrid, connect):
    sendgrid.behave("slow", seconds=0.2)
    transport = connect(sendgrid.base_url, concurrent_sends=2)
    await asyncio.gather(*(transport.send(a_message()) for _ in range(8)))
    assert len(sendgrid.received) == 8


async def test_a_redirect_is_not_followed_with_our_key_in_hand(sendgrid, raw_server, connect):
    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        location = f"Location: {sendgrid.base_url}/v3/mail/send\r\n".encode()
        writer.write(b"HTTP/1.1 307 Temporary Redirect\r\n" + location + b"Content-Length: 0\r\n\r\n")
        await writer.drain()

    with pytest.raises(MailUnavailable, match="SENDGRID_BASE_URL"):
        await connect(await raw_server(redirect)).send(a_message())
    assert sendgrid.requests == 0


async def test_a_silent_provider_is_left_after_the_read_timeout(sendgrid, connect):
    sendgrid.behave("hang")
    timeouts = Timeouts(connect_seconds=0.5, read_seconds=0.2, total_seconds=30)
    with pytest.raises(MailUncertain, match="Timeout on reading"):
        await asyncio.wait_for(connect(sendgrid.base_url, timeouts=timeouts).send(a_message()), 5)


async def test_connections_are_kept_and_not_more_are_opened_than_allowed(sendgrid, connect):
    transport = connect(sendgrid.base_url)
    await asyncio.gather(*(transport.send(a_message()) for _ in range(5 * DEFAULT_CONCURRENT_SENDS)))
    assert len(sendgrid.accepted_by_email_id) == 5 * DEFAULT_CONCURRENT_SENDS
    assert len(sendgrid.peers) <= DEFAULT_CONCURRENT_SENDS


async def test_after_a_restart_of_the_provider_the_next_email_goes_through(sendgrid, transport):
    await transport.send(a_message())
    await sendgrid.stop()
    with pytest.raises(MailUnavailable):
        await transport.send(a_message())
    await sendgrid.start()
    assert await transport.send(a_message())


async def test_a_kept_connection_that_was_closed_while_we_looked_away_is_uncertain(connect):
    """The bytes leave before asyncio's loop learns that the other side had closed: who knows what became of them?

    uvloop learns it first and lets nothing out, which is, as truthfully, `MailUnavailable`.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    closed = threading.Event()

    def answer_once_then_close() -> None:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n")
        time.sleep(0.2)
        connection.close()
        closed.set()

    server = threading.Thread(target=answer_once_then_close)
    server.start()
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    transport = connect(base_url)
    assert await transport.send(a_message()) == Accepted(None)
    closed.wait(5)
    with pytest.raises(MailUncertain):
        await transport.send(a_message())
    server.join(5)
    listener.close()


async def test_the_key_is_in_no_reason_and_in_no_print(sendgrid, transport):
    sendgrid.behave("hang")
    with pytest.raises(MailUncertain) as caught:
        await transport.send(a_message())
    assert "SG.k" not in caught.value.reason + repr(transport) + repr(caught.value.__cause__)


async def test_a_base_url_with_a_path_keeps_it(raw_server, connect):
    asked: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    transport = connect(await raw_server(note) + "/sendgrid")
    await transport.send(a_message())
    assert asked == [b"POST /sendgrid/v3/mail/send HTTP/1.1\r\n"]


@pytest.fixture
async def raw_server():
    """Starts a raw server around a connection handler and gives its URL."""
    servers: list[asyncio.Server] = []
    finished: list[asyncio.Event] = []

    async def serve(handler) -> str:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            finished.append(asyncio.Event())
            done = finished[-1]
            with contextlib.suppress(ConnectionError):
                await handler(reader, writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            done.set()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield serve
    for server in servers:
        server.close()
    for event in finished:
        await asyncio.wait_for(event.wait(), 5)
