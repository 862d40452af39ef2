"""E-mails as their readers get them, in one shape, whether they came into the mailbox folder or to the stand-in."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from tests.harness.mailbox import read_mails
from tests.harness.sendgrid import Received


@dataclass(frozen=True)
class Mail:
    """One e-mail that arrived. `email_id`, `lead_id`, `event_id` and `kind` are ours, and came along with it."""

    to: tuple[str, ...]
    subject: str
    text: str
    html: str
    email_id: str
    lead_id: str
    event_id: str
    kind: str


Inbox = Callable[[], list[Mail]]
"""Everything that arrived so far."""


def mailbox_inbox(mailbox: Path) -> Inbox:
    """What lies in the mailbox folder."""
    return lambda: [from_eml(mail) for mail in read_mails(mailbox)]


def sendgrid_inbox(received: list[Received]) -> Inbox:
    """What the stand-in accepted."""
    return lambda: [from_sendgrid(mail.payload) for mail in received]


def from_eml(mail: EmailMessage) -> Mail:
    """As a mail program reads it. Fails when one of the two bodies is missing."""
    text, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert html is not None
    return Mail(
        to=tuple(address.addr_spec for address in mail["To"].addresses),
        subject=mail["Subject"],
        text=text.get_content(),
        html=html.get_content(),
        email_id=mail["X-Leads-Email-Id"],
        lead_id=mail["X-Leads-Lead-Id"],
        event_id=mail["X-Leads-Event-Id"],
        kind=mail["X-Leads-Kind"],
    )


def from_sendgrid(payload: dict[str, Any]) -> Mail:
    """As SendGrid would send it on."""
    bodies = {part["type"]: part["value"] for part in payload["content"]}
    ours = payload["custom_args"]
    return Mail(
        to=tuple(entry["email"] for entry in payload["personalizations"][0]["to"]),
        subject=payload["subject"],
        text=bodies["text/plain"],
        html=bodies["text/html"],
        email_id=ours["email_id"],
        lead_id=ours["lead_id"],
        event_id=ours["event_id"],
        kind=ours["kind"],
    )


async def wait_for(inbox: Inbox, count: int, *, lead_id: str | None = None, seconds: float = 20.0) -> list[Mail]:
    """At least `count` e-mails, of that lead if one is named. Fails when they do not come in time."""
    deadline = time.monotonic() + seconds
    while True:
        found = [mail for mail in inbox() if lead_id in (None, mail.lead_id)]
        if len(found) >= count:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"only {len(found)} of {count} e-mails after {seconds} s")
        await asyncio.sleep(0.05)
