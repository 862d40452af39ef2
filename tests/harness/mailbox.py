"""Reads the dev mailbox as a mail client would."""

import asyncio
import email
import email.policy
import time
from email.message import EmailMessage
from pathlib import Path


def read_mails(mailbox: Path) -> list[EmailMessage]:
    """Every complete e-mail, oldest first."""
    found = sorted(mailbox.glob("*.eml")) if mailbox.exists() else []
    return [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in found]


async def wait_for_mails(mailbox: Path, count: int, seconds: float = 20.0) -> list[EmailMessage]:
    """At least `count` e-mails. Fails when they do not come in time."""
    deadline = time.monotonic() + seconds
    while len(found := read_mails(mailbox)) < count:
        if time.monotonic() > deadline:
            raise AssertionError(f"only {len(found)} of {count} e-mails after {seconds} s")
        await asyncio.sleep(0.05)
    return found
