"""Which way e-mails leave, chosen by `LEADS_MAIL_URL`: to SendGrid over kept-alive connections, or into a folder."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp

from services.notifier.email import Accepted, EmailMessage, MailTransport, Sender, send_email
from services.notifier.mailbox import MailboxTransport
from shared.tracing.client import client_spans

DEFAULT_SENDGRID_BASE_URL = "https://api.sendgrid.com"
"""Elsewhere: https://api.eu.sendgrid.com for subusers of the EU region, or a stand-in."""

DEFAULT_CONCURRENT_SENDS = 32
"""Requests under way at once: two for each of the events that a notifier has in hand by default."""


@dataclass(frozen=True)
class Timeouts:
    """How long SendGrid may take. The official client would wait for ever."""

    connect_seconds: float = 5.0
    read_seconds: float = 20.0
    total_seconds: float = 30.0


class SendGridTransport:
    """Sends through SendGrid: at most `concurrent_sends` at once, over connections that are kept open."""

    def __init__(
        self,
        *,
        api_key: str,
        sender: Sender,
        base_url: str = DEFAULT_SENDGRID_BASE_URL,
        timeouts: Timeouts = Timeouts(),
        concurrent_sends: int = DEFAULT_CONCURRENT_SENDS,
        sandbox: bool = False,
    ) -> None:
        """With `sandbox` SendGrid checks all and sends nothing. Raises `ValueError` for a key or URL of no use."""
        if not api_key.strip():
            raise ValueError("SENDGRID_API_KEY is not set: sendgrid:// needs it.")
        if urlsplit(base_url).scheme not in {"http", "https"} or not urlsplit(base_url).hostname:
            raise ValueError("SENDGRID_BASE_URL is not an http(s) URL.")
        self._api_key = api_key.strip()
        self._base_url = base_url.rstrip("/") + "/"
        self._sender = sender
        self._timeouts = timeouts
        self._concurrent_sends = concurrent_sends
        self._turns = asyncio.Semaphore(concurrent_sends)
        self._sandbox = sandbox
        self._session: aiohttp.ClientSession | None = None

    async def send(self, message: EmailMessage) -> Accepted:
        """As `MailTransport.send`. Waiting for a turn is not counted against the timeouts."""
        async with self._turns:
            session = self._open_session()
            return await send_email(message, sender=self._sender, session=session, sandbox=self._sandbox)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                self._base_url,
                connector=aiohttp.TCPConnector(limit=self._concurrent_sends),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={
                    "Authorization": f"Bearer {self._api_key}",
                    "Accept": "application/json",
                    "User-Agent": "leads-notifier",
                },
                timeout=aiohttp.ClientTimeout(
                    total=self._timeouts.total_seconds,
                    connect=self._timeouts.connect_seconds,
                    sock_connect=self._timeouts.connect_seconds,
                    sock_read=self._timeouts.read_seconds,
                ),
                trace_configs=client_spans(propagate=False),  # SendGrid has no use for our traces
            )
        return self._session


def transport_for(
    url: str,
    *,
    sender: Sender,
    api_key: str = "",
    base_url: str = DEFAULT_SENDGRID_BASE_URL,
    timeouts: Timeouts = Timeouts(),
    concurrent_sends: int = DEFAULT_CONCURRENT_SENDS,
) -> MailTransport:
    """The transport that `LEADS_MAIL_URL` names. Raises `ValueError` with a line for whoever set it."""
    if url == "sendgrid://":
        return SendGridTransport(
            api_key=api_key, sender=sender, base_url=base_url, timeouts=timeouts, concurrent_sends=concurrent_sends
        )
    folder = folder_of(url)
    if folder is None:
        raise ValueError("LEADS_MAIL_URL must be sendgrid:// or file:///path/to/a/folder.")
    return MailboxTransport(folder, sender=sender)


def folder_of(url: str) -> Path | None:
    """The folder that a `file://` URL names; None for another URL."""
    parts = urlsplit(url)
    plain = parts.netloc in {"", "localhost"} and len(parts.path) > 1 and not parts.query and not parts.fragment
    return Path(unquote(parts.path)) if parts.scheme == "file" and plain else None
