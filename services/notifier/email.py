"""What an e-mail is, what can become of sending it, and `send_email`, which hands it to SendGrid's v3 `mail/send`.

The words of an e-mail are made in `render.py`, its delivery is decided in `delivery.py`, and the mailbox folder that
stands in for SendGrid in the embedded size is `mailbox.py`. Nothing here retries: it says truthfully what happened.
"""

import contextlib
import json
import re
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Protocol

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter

SEND_PATH = "v3/mail/send"
"""Relative to `SENDGRID_BASE_URL` (https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send)."""

EMAIL_ID_ARG = "email_id"
"""The custom argument that carries our own id; SendGrid repeats it in every event about this e-mail."""

AUTOMATIC: Mapping[str, str] = {"Auto-Submitted": "auto-generated"}
"""Told to every mail program, so that an absence note or another machine does not answer it (RFC 3834, section 5)."""

MAX_NAME_CHARACTERS = 100
MAX_SUBJECT_CHARACTERS = 200

DEFAULT_RETRY_AFTER_SECONDS = 60.0
MIN_RETRY_AFTER_SECONDS = 1.0
MAX_RETRY_AFTER_SECONDS = 900.0
"""A quarter of an hour: a limit that lasts longer is asked about again, and a wrong clock cannot stop the mail."""

_CHECK: Mapping[int, str] = {
    HTTPStatus.UNAUTHORIZED: "Check SENDGRID_API_KEY and the account's credits.",
    HTTPStatus.FORBIDDEN: "Check that LEADS_MAIL_FROM is a verified sender and that SENDGRID_API_KEY may send mail.",
}
_SANDBOX = {"mail_settings": {"sandbox_mode": {"enable": True}}}
_ANSWER_MAX_BYTES = 64 * 1024
_REASON_MAX_CHARACTERS = 300
_KEPT_FORMAT_CHARACTERS = "\u200c\u200d"  # joiners: Persian spelling and composed emoji need them
_NAME_BREAKERS = re.compile(r'[;,<>"\\]')
_ATOM = r"[^\s.@<>()\[\],;:\\\"\x00-\x1f\x7f]+"
_ADDRESS = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@[A-Za-z0-9.-]{{1,255}}")
_ANYTHING_LIKE_AN_ADDRESS = re.compile(r"\S*[@\uff20]\S*")
_MESSAGE_ID = re.compile(r"[\w.+=-]{1,200}", re.ASCII)


@dataclass(frozen=True)
class EmailMessage:
    """One e-mail, ready to go. `custom_args` are ids only; several `to` see each other. Prints without its content."""

    id: str
    to: tuple[str, ...] = field(repr=False)
    to_name: str | None = field(repr=False)
    subject: str = field(repr=False)
    html: str = field(repr=False)
    text: str = field(repr=False)
    custom_args: Mapping[str, str] = field(default_factory=dict)
    categories: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sender:
    """Whom e-mails come from, and where answers go if not there."""

    address: str
    name: str
    reply_to: str | None = None


@dataclass(frozen=True)
class Accepted:
    """Taken for delivery, not yet delivered. SendGrid does not always name a `message_id`."""

    message_id: str | None


class MailTransport(Protocol):
    """A way for e-mails to leave."""

    async def send(self, message: EmailMessage) -> Accepted:
        """Hand over one e-mail. Raises one of the `MailError` family and nothing else."""

    async def close(self) -> None:
        """Let go of connections."""


class MailError(Exception):
    """An e-mail was not, or not certainly, handed over. `reason` names no address and may be shown to staff."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MailRejected(MailError):  # noqa: N818
    """This e-mail will never be accepted; others may be."""


class MailThrottled(MailError):  # noqa: N818
    """Too many e-mails for now; none is accepted for `retry_after_seconds`."""

    def __init__(self, reason: str, *, retry_after_seconds: float) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class MailUnauthorized(MailError):  # noqa: N818
    """No e-mail is accepted until somebody corrects a setting or the account."""


class MailUnavailable(MailError):  # noqa: N818
    """Certainly not handed over, and not this e-mail's fault: it may simply be tried again."""


class MailUncertain(MailError):  # noqa: N818
    """The request was sent and no answer was read: the e-mail may or may not be on its way."""


def plain_line(text: str, max_characters: int) -> str:
    """`text` on one line without controls, invisible or direction-changing characters; cut with `…` where too long."""
    spaced = "".join(" " if unicodedata.category(char) == "Cc" else char for char in text)
    shown = "".join(char for char in spaced if char in _KEPT_FORMAT_CHARACTERS or _is_visible(char))
    line = " ".join(shown.split())
    return line if len(line) <= max_characters else line[: max_characters - 1].rstrip() + "…"


def display_name(text: str) -> str:
    """`plain_line` without the characters that end a display name or begin another address (RFC 5322, section 3.4)."""
    return plain_line(_NAME_BREAKERS.sub(" ", text), MAX_NAME_CHARACTERS)


def is_sendable_address(address: str) -> bool:
    """Whether `address` is one plain `local@domain`. Whether letters outside ASCII are taken, the provider says."""
    return _ADDRESS.fullmatch(address) is not None


def without_addresses(text: str) -> str:
    """`text` on one short line with everything that could be an e-mail address masked."""
    return plain_line(_ANYTHING_LIKE_AN_ADDRESS.sub("[address]", text), _REASON_MAX_CHARACTERS)


async def send_email(
    message: EmailMessage, *, sender: Sender, session: aiohttp.ClientSession, sandbox: bool = False
) -> Accepted:
    """Hand `message` to SendGrid over `session`, which knows the base URL, the key and the timeouts.

    Returns on 202 only: 200 means "valid, but not queued" (https://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html),
    which is what a `sandbox` is for: everything is checked and nothing is sent
    (https://www.twilio.com/docs/sendgrid/for-developers/sending-email/sandbox-mode).
    Raises the `MailError` family; `MailUnavailable` only if no byte of the request left, or SendGrid itself said no.
    """
    if not message.to or not all(map(is_sendable_address, message.to)):
        raise MailRejected("The address is not one that e-mail can be sent to through SendGrid.")
    document = {**payload(message, sender), **(_SANDBOX if sandbox else {})}
    body = _Body(json.dumps(document).encode(), content_type="application/json")
    try:
        ids = {f"leads.{EMAIL_ID_ARG}": message.id}
        async with session.post(SEND_PATH, data=body, allow_redirects=False, trace_request_ctx=ids) as response:
            return await _read(response, HTTPStatus.OK if sandbox else HTTPStatus.ACCEPTED)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        detail = without_addresses(f"{type(error).__name__} {error}")
        if body.was_sent:
            raise MailUncertain(f"The request was sent, but SendGrid's answer was not read ({detail}).") from error
        raise MailUnavailable(f"SendGrid could not be reached ({detail}).") from error


def payload(message: EmailMessage, sender: Sender) -> dict[str, Any]:
    """The JSON of `mail/send`, by the official library: one personalization, no template, no tracking of any kind."""
    from sendgrid.helpers import mail  # 9 MiB that the mailbox size never needs

    to_all = mail.Personalization()
    for address in message.to:
        to_all.add_to(_named(mail.To(), address, message.to_name))
    request = mail.Mail(
        from_email=_named(mail.From(), sender.address, sender.name),
        subject=plain_line(message.subject, MAX_SUBJECT_CHARACTERS),
        plain_text_content=message.text,
        html_content=message.html,
    )
    request.add_personalization(to_all)
    if sender.reply_to:
        request.reply_to = _named(mail.ReplyTo(), sender.reply_to, None)
    for key, value in {**message.custom_args, EMAIL_ID_ARG: message.id}.items():
        request.add_custom_arg(mail.CustomArg(key, value))
    for name, value in AUTOMATIC.items():
        request.add_header(mail.Header(name, value))
    for category in message.categories:
        request.add_category(mail.Category(category))
    request.tracking_settings = mail.TrackingSettings(
        click_tracking=mail.ClickTracking(enable=False, enable_text=False),
        open_tracking=mail.OpenTracking(enable=False),
        subscription_tracking=mail.SubscriptionTracking(enable=False),
        ganalytics=mail.Ganalytics(enable=False),
    )
    document: dict[str, Any] = request.get()
    return document


def _named(recipient: Any, address: str, name: str | None) -> Any:
    """Set both by property: the library's constructor would take an address without a name apart again."""
    recipient.email = address
    shown = display_name(name or "")
    if shown:
        recipient.name = shown
    return recipient


class _Body(aiohttp.BytesPayload):
    """A request body that knows whether any byte of the request was given to an open connection.

    aiohttp writes headers and body in one piece, and refuses before it writes when the connection is closing. Its
    trace signals cannot tell these apart: `on_request_chunk_sent` is called before the write and its refusal.
    """

    was_sent = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.was_sent = not (isinstance(writer, StreamWriter) and _is_closing(writer))
        await super().write_with_length(writer, content_length)


def _is_closing(writer: StreamWriter) -> bool:
    transport = writer.transport
    return transport is None or transport.is_closing()


async def _read(response: aiohttp.ClientResponse, success: HTTPStatus) -> Accepted:
    """The status is the answer: a body that cannot be read costs the explanation, not the verdict."""
    if response.status == success:
        named = response.headers.get("X-Message-Id", "")
        return Accepted(named if _MESSAGE_ID.fullmatch(named) else None)
    explanation = bytearray()
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
        while len(explanation) < _ANSWER_MAX_BYTES and not response.content.at_eof():
            explanation += await response.content.readany()
    raise _refusal(response.status, response.headers, _messages(bytes(explanation)))


def _refusal(status: int, headers: Mapping[str, str], said: str) -> MailError:
    words = f"SendGrid answered {status}{': ' + said.rstrip('.') if said else ''}."
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return MailThrottled(words, retry_after_seconds=_retry_after_seconds(headers))
    if status in _CHECK:
        return MailUnauthorized(f"{words} {_CHECK[status]}")
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED} or 300 <= status < 400:  # noqa: PLR2004
        return MailUnavailable(f"{words} Nothing takes mail there: check SENDGRID_BASE_URL.")
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return MailUnavailable(words)
    if status >= HTTPStatus.BAD_REQUEST:
        return MailRejected(words)
    return MailUncertain(f"{words} Only 202 means that the e-mail is queued.")


def _messages(body: bytes) -> str:
    """The messages of SendGrid's error body `{"errors": [{"message", "field", "help"}]}`, or nothing."""
    try:
        errors = json.loads(body)["errors"]
        said = "; ".join(str(error["message"]) for error in errors)
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return without_addresses(said)


def _retry_after_seconds(headers: Mapping[str, str]) -> float:
    """`Retry-After` first, as seconds do not depend on our clock; else SendGrid's `X-RateLimit-Reset` (epoch)."""
    seconds = DEFAULT_RETRY_AFTER_SECONDS
    with contextlib.suppress(ValueError, OverflowError):
        if "Retry-After" in headers:
            seconds = _delay_seconds(headers["Retry-After"], _now(headers))
        elif "X-RateLimit-Reset" in headers:
            seconds = int(headers["X-RateLimit-Reset"]) - _now(headers)
    return min(max(seconds, MIN_RETRY_AFTER_SECONDS), MAX_RETRY_AFTER_SECONDS)


def _now(headers: Mapping[str, str]) -> float:
    """By the clock of who answers (RFC 9110, section 6.6.1), since it names its instants by that; else by ours."""
    try:
        return parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return time.time()


def _delay_seconds(retry_after: str, now: float) -> float:
    """Seconds, or a date (RFC 9110, section 10.2.3)."""
    if retry_after.strip().isdecimal():
        return float(retry_after)
    at = parsedate_to_datetime(retry_after)
    return at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now


def _is_visible(char: str) -> bool:
    return unicodedata.category(char) not in {"Cf", "Cs"}
