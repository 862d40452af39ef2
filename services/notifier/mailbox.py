"""A mailbox folder in place of a mail provider: each e-mail becomes one `.eml` file that any mail program opens."""

import asyncio
import os
import re
import secrets
from datetime import UTC, datetime
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage as MimeMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from pathlib import Path
from uuid import UUID

import aiofiles
import aiofiles.os

from services.notifier.email import (
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
from shared.ids import is_id

_MAX_HEADER_CHARACTERS = 200
_MAX_KIND_CHARACTERS = 40
_MAX_LINE_BYTES = 998
_TIME_ORDERED = 7
_NOT_FOR_FILENAMES = re.compile(r"[^a-z0-9]+")
_NOT_FOR_HEADER_NAMES = re.compile(r"[^A-Za-z0-9]+")


class MailboxTransport:
    """Writes e-mails into `folder`, which it makes if need be. The same e-mail sent twice is the same file."""

    def __init__(self, folder: Path, *, sender: Sender) -> None:
        self._folder = folder
        self._sender = sender

    async def send(self, message: EmailMessage) -> Accepted:
        """Keep the e-mail durably; `message_id` is its file's name. Raises `MailRejected` or `MailUnavailable`."""
        name = file_name(message)
        content = as_eml(message, self._sender)
        try:
            await _write_durably(self._folder, name, content)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise MailUnavailable(f"The mailbox folder (LEADS_MAIL_URL) cannot be written: {reason}.") from error
        return Accepted(name)

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
        mime.set_content(message.text, cte=_encoding(message.text))
        mime.add_alternative(message.html, subtype="html", cte=_encoding(message.html))
        return mime.as_bytes()
    except (ValueError, MessageError) as error:
        raise MailRejected(f"The e-mail cannot be written as a message ({type(error).__name__}).") from error


def _with_headers(message: EmailMessage, sender: Sender) -> MimeMessage:
    mime = MimeMessage(policy=SMTP if all(map(str.isascii, message.to)) else SMTPUTF8)
    mime["From"] = Address(display_name(sender.name), addr_spec=sender.address)
    mime["To"] = [_address(address, message.to_name) for address in message.to]
    if sender.reply_to:
        mime["Reply-To"] = Address(addr_spec=sender.reply_to)
    mime["Subject"] = plain_line(message.subject, MAX_SUBJECT_CHARACTERS)
    mime["Date"] = format_datetime(_made_at(message.id))
    mime["Message-ID"] = f"<{message.id}@{sender.address.rpartition('@')[2]}>"
    mime["X-Leads-Email-Id"] = message.id
    for key, value in message.custom_args.items():
        header = "X-Leads-" + _NOT_FOR_HEADER_NAMES.sub("-", key).title()
        if header not in mime:
            mime[header] = plain_line(value, _MAX_HEADER_CHARACTERS)
    return mime


def _address(address: str, name: str | None) -> Address:
    """The library parses a whole address, and takes letters outside ASCII (RFC 6532) only when given its halves."""
    if address.isascii():
        return Address(display_name(name or ""), addr_spec=address)
    local, _, domain = address.rpartition("@")
    return Address(display_name(name or ""), username=local, domain=domain)


def _encoding(body: str) -> str:
    """8bit, so that a person can read the file as it is, unless a line is too long for that (RFC 5322, 2.1.1)."""
    longest_bytes = max((len(line.encode()) for line in body.splitlines()), default=0)
    return "8bit" if longest_bytes <= _MAX_LINE_BYTES else "quoted-printable"


def _made_at(email_id: str) -> datetime:
    """The instant inside a UUIDv7: its first 48 bits are milliseconds since 1970 (RFC 9562, section 5.7)."""
    if not is_id(email_id) or UUID(email_id).version != _TIME_ORDERED:
        raise MailRejected("The e-mail's id is not a UUIDv7, so it has no place in the mailbox.")
    return datetime.fromtimestamp((UUID(email_id).int >> 80) / 1000, UTC)


async def _write_durably(folder: Path, name: str, content: bytes) -> None:
    """Temporary name, fsync, rename, fsync of the folder: a reader and a crash see the whole file or none."""
    await aiofiles.os.makedirs(folder, mode=0o700, exist_ok=True)
    temporary = folder / f".{name}.{secrets.token_hex(4)}.tmp"
    try:
        async with aiofiles.open(temporary, "xb", opener=_owner_only) as file:
            await file.write(content)
            await file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        await aiofiles.os.replace(temporary, folder / name)
    except BaseException:
        await asyncio.to_thread(temporary.unlink, missing_ok=True)
        raise
    await asyncio.to_thread(_fsync_folder, folder)


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
