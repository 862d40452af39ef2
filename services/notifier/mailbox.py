"""A mailbox folder in place of a mail provider: each e-mail becomes one `.eml` file that any mail program opens."""

import asyncio
import os
import re
import secrets
import time
from contextlib import suppress
from datetime import datetime
from email.charset import QP, Charset
from email.errors import MessageError
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.policy import compat32
from email.utils import format_datetime
from pathlib import Path
from uuid import UUID

from services.notifier.email import (
    AUTOMATIC,
    MAX_SUBJECT_CHARACTERS,
    Accepted,
    EmailMessage,
    MailRejected,
    MailUnavailable,
    Sender,
    display_name,
    is_sendable_address,
    plain_line,
)
from shared.ids import is_id, made_at

_INCOMING = ".incoming"
"""Where an e-mail is until all of it is safe: out of its readers' way, and so few at a time that a look is cheap."""

_LEFT_BEHIND_SECONDS = 5.0
"""Whoever writes is done within that. An e-mail that was cut short is sent again when its lease of 10 s has run out."""

_MAX_HEADER_CHARACTERS = 200
_MAX_KIND_CHARACTERS = 40
_MAX_LINE_BYTES = 998
_TIME_ORDERED = 7
_LINE_END = re.compile(r"\r\n|\r|\n")
_NOT_FOR_FILENAMES = re.compile(r"[^a-z0-9]+")
_POLICY = compat32.clone(linesep="\r\n")
"""The library's older policy: the newer one parses each header it is given, which took most of a mail's time."""

_AS_IT_IS, _QUOTED_PRINTABLE = Charset("utf-8"), Charset("utf-8")
_AS_IT_IS.body_encoding = None  # type: ignore[assignment] # documented: no encoding at all
_QUOTED_PRINTABLE.body_encoding = QP

_NOT_FOR_HEADER_NAMES = re.compile(r"[^A-Za-z0-9]+")


class MailboxTransport:
    """Writes e-mails into `folder`, which it makes if need be. The same e-mail sent twice is the same file."""

    def __init__(self, folder: Path, *, sender: Sender) -> None:
        self._folder = folder
        self._sender = sender
        self._device: int | None = None
        """The disk that the first e-mail went to."""

    async def send(self, message: EmailMessage) -> Accepted:
        """Keep the e-mail durably; `message_id` is its file's name. Raises `MailRejected` or `MailUnavailable`."""
        name = file_name(message)
        content = as_eml(message, self._sender)
        try:
            await asyncio.to_thread(self._write, name, content)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise MailUnavailable(f"The mailbox folder (LEADS_MAIL_URL) cannot be written: {reason}.") from error
        return Accepted(name)

    def _write(self, name: str, content: bytes) -> None:
        """Not into what an unmounted disk leaves in its place: nobody would find it there once the disk is back."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        device = self._folder.stat().st_dev
        if self._device not in {None, device}:
            raise MailUnavailable(
                "The mailbox folder (LEADS_MAIL_URL) is on another disk than before: mount its own again, or start the "
                "notifier anew if this one is meant."
            )
        self._device = device
        _write_durably(self._folder, name, content)

    async def close(self) -> None:
        """Nothing is held open."""


def file_name(message: EmailMessage) -> str:
    """`<UTC stamp>-<kind>-<email id>.eml`: sorts by time, and is the same however often the e-mail is sent.

    The kind is the first category. Raises `MailRejected` for an id that is not a UUIDv7.
    """
    category = "".join(message.categories[:1]).lower()[:_MAX_KIND_CHARACTERS]
    kind = _NOT_FOR_FILENAMES.sub("-", category).strip("-") or "mail"
    return f"{_made_at(message.id):%Y%m%dT%H%M%S.%f}"[:-3] + f"Z-{kind}-{message.id}.eml"


def as_eml(message: EmailMessage, sender: Sender) -> bytes:
    """The e-mail in internet message format (RFC 5322), text before HTML. Raises `MailRejected`."""
    if not message.to or not all(map(is_sendable_address, message.to)):
        raise MailRejected("The address is not one that e-mail can be sent to.")
    try:
        mime = _with_headers(message, sender)
        for kind, body in (("plain", message.text), ("html", message.html)):
            mime.attach(MIMEText(body, kind, _utf8(body)))  # type: ignore[arg-type] # typeshed knows names only
        return mime.as_bytes(policy=_POLICY)
    except (ValueError, MessageError) as error:
        raise MailRejected(f"The e-mail cannot be written as a message ({type(error).__name__}).") from error


def _with_headers(message: EmailMessage, sender: Sender) -> MIMEMultipart:
    mime = MIMEMultipart("alternative", boundary=f"=_{message.id}", policy=_POLICY)
    mime["From"] = _mailbox("From", display_name(sender.name), sender.address)
    to = [_mailbox("To", display_name(message.to_name or ""), address) for address in message.to]
    mime["To"] = ",\r\n ".join(to)
    if sender.reply_to:
        mime["Reply-To"] = _mailbox("Reply-To", "", sender.reply_to)
    mime["Subject"] = _text("Subject", plain_line(message.subject, MAX_SUBJECT_CHARACTERS))
    mime["Date"] = format_datetime(_made_at(message.id))
    mime["Message-ID"] = f"<{message.id}@{sender.address.rpartition('@')[2]}>"
    for name, value in AUTOMATIC.items():
        mime[name] = value
    mime["X-Leads-Email-Id"] = message.id
    for key, value in message.custom_args.items():
        header = "X-Leads-" + _NOT_FOR_HEADER_NAMES.sub("-", key).title()
        if header not in mime:
            mime[header] = _text(header, plain_line(value, _MAX_HEADER_CHARACTERS))
    return mime


def _mailbox(header: str, name: str, address: str) -> str:
    """Name and address as one header's text: names outside ASCII as RFC 2047 says, addresses as RFC 6532 does."""
    if not address.isascii():
        address = address.encode().decode("ascii", "surrogateescape")
    if _is_plain(name):
        return f'"{name}" <{address}>' if name else address
    return f"{_text(header, name)} <{address}>"


def _text(header: str, text: str) -> str:
    """A header's text; encoded where it is not ASCII (RFC 2047), or where a reader would take it for encoded."""
    charset = None if _is_plain(text) else "utf-8"
    return Header(text, charset, header_name=header).encode(linesep="\r\n")


def _is_plain(text: str) -> bool:
    return text.isascii() and "=?" not in text


def _utf8(body: str) -> Charset:
    """UTF-8, as it is, so that a person can read the file, unless a line is too long for that (RFC 5322, 2.1.1)."""
    longest_bytes = max((len(line.encode()) for line in _LINE_END.split(body)), default=0)
    return _AS_IT_IS if longest_bytes <= _MAX_LINE_BYTES else _QUOTED_PRINTABLE


def _made_at(email_id: str) -> datetime:
    """When the e-mail was made, by its id. Raises `MailRejected` for one that does not tell."""
    if not is_id(email_id) or UUID(email_id).version != _TIME_ORDERED:
        raise MailRejected("The e-mail's id is not a UUIDv7, so it has no place in the mailbox.")
    return made_at(email_id)


def _write_durably(folder: Path, name: str, content: bytes) -> None:
    """Temporary name, fsync, rename, fsync of the folder: a reader and a crash see the whole file or none.

    All of it in one trip to a thread: trips cost more than what is done on them.
    """
    incoming = folder / _INCOMING
    incoming.mkdir(mode=0o700, exist_ok=True)
    temporary = incoming / f"{name}.{secrets.token_hex(4)}"
    try:
        with open(temporary, "xb", opener=_owner_only) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / name)  # noqa: PTH105 - beside the two fsyncs that it belongs with
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _fsync_folder(folder)
    _clear_up(incoming, name)


def _clear_up(incoming: Path, name: str) -> None:
    """What a notifier that was killed had written of this e-mail before: nobody else would ever remove it."""
    left_before = time.time() - _LEFT_BEHIND_SECONDS
    with os.scandir(incoming) as entries:
        for left in entries:
            with suppress(FileNotFoundError):
                if left.name.startswith(f"{name}.") and left.stat().st_mtime < left_before:
                    Path(left).unlink()


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
