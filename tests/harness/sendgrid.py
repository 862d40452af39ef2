"""A stand-in for SendGrid: a real HTTP server that takes and refuses mail as SendGrid documents, and can misbehave.

In a test:       async with SendGridStandIn() as sendgrid: ... sendgrid.base_url ... sendgrid.received
As a process:    python -m tests.harness.sendgrid --port 8025 --log accepted.jsonl
It is steered by `behave(...)`, or from outside by `POST /_control {"behaviour": "429", "times": 3, "seconds": 2}`;
`GET /_received` tells what was accepted. A log that is there already is read first: accepted mail survives a kill.
"""

import argparse
import asyncio
import contextlib
import json
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from email.utils import formatdate
from enum import StrEnum
from http import HTTPStatus
from io import RawIOBase
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from tests.harness.sendgrid_answers import REQUESTS_PER_WINDOW, answer_status, drop, judge, limits
from tests.harness.sendgrid_rules import MAX_BODY_BYTES, is_sandboxed, recipients

EMAIL_ID_ARG = "email_id"


class Behaviour(StrEnum):
    """What becomes of a request that is otherwise in order. A number answers with that status instead."""

    ACCEPT = "accept"
    SLOW = "slow"
    """Accepts after `seconds`."""
    HANG = "hang"
    """Reads the request and never answers."""
    DROP_BEFORE = "drop_before"
    """Closes the connection without having taken the mail."""
    DROP_AFTER_ACCEPT = "drop_after_accept"
    """Takes the mail, then closes the connection without an answer."""
    GARBAGE = "garbage"
    """Answers with what is not HTTP."""
    SLOW_HEADERS = "slow_headers"
    """Takes the mail, then answers byte by byte, `seconds` apart."""
    ENDLESS_BODY = "endless_body"
    """Takes the mail and says so, in an answer whose body never ends."""


@dataclass(frozen=True)
class Received:
    """One mail that was accepted."""

    message_id: str
    email_id: str | None
    to: list[str]
    payload: dict[str, Any]
    at: float


class SendGridStandIn:
    """The server. `port=0` takes a free one; `log` keeps a JSON line for each accepted mail."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, log: Path | None = None) -> None:
        self.received: list[Received] = []
        self.requested_at: list[float] = []
        """When each request to `mail/send` came, also those that were refused or dropped."""
        self.look: Callable[[Mapping[str, str]], str | None] | None = None
        """Shown the custom arguments of each request that is in order; may choose what becomes of it."""
        self.sandboxed = 0
        """Requests that were found in order and not sent: https://www.twilio.com/docs/sendgrid/for-developers/sending-email/sandbox-mode."""
        self.peers: set[object] = set()
        """The client's end of each connection that requests came over."""
        self.clock_ahead_seconds = 0.0
        """How far the `Date` of its answers is ahead."""
        self._host = host
        self._port = port
        self._log_path = log
        self._log: RawIOBase | None = None
        self._behaviour: str = Behaviour.ACCEPT
        self._times_left: int | None = None
        self._seconds = 0.0
        self._stopping = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def requests(self) -> int:
        """How many requests to `mail/send` there were."""
        return len(self.requested_at)

    @property
    def base_url(self) -> str:
        """What `SENDGRID_BASE_URL` should be."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def accepted_by_email_id(self) -> Counter[str]:
        """How often each of our e-mail ids was accepted: more than once is a duplicate in somebody's inbox."""
        return Counter(mail.email_id for mail in self.received if mail.email_id is not None)

    def behave(self, behaviour: str, *, times: int | None = None, seconds: float = 0.0) -> None:
        """From now on, or for the next `times` requests. `seconds`: of the slow ones, or until the reset of `429`."""
        if not behaviour.isdecimal():
            Behaviour(behaviour)
        self._behaviour, self._times_left, self._seconds = behaviour, times, seconds

    async def start(self) -> Self:
        """Listen."""
        self._open_log()
        app = web.Application(client_max_size=MAX_BODY_BYTES + 1)
        app.on_response_prepare.append(self._date)
        app.router.add_post("/v3/mail/send", self._send)
        app.router.add_post("/_control", self._control)
        app.router.add_get("/_received", self._tell_received)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def stop(self) -> None:
        """Close every connection and the log. `start` again listens on the same port."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._log is not None:
            self._log.close()
        self._runner = self._log = None
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _date(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Date"] = formatdate(time.time() + self.clock_ahead_seconds, usegmt=True)

    async def _control(self, request: web.Request) -> web.Response:
        wish = await request.json()
        try:
            self.behave(str(wish["behaviour"]), times=wish.get("times"), seconds=float(wish.get("seconds", 0)))
        except (KeyError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=HTTPStatus.BAD_REQUEST)
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _tell_received(self, _request: web.Request) -> web.Response:
        mails = [asdict(mail) for mail in self.received]
        return web.json_response(
            {"requests": self.requests, "accepted_by_email_id": self.accepted_by_email_id, "received": mails}
        )

    async def _send(self, request: web.Request) -> web.StreamResponse:
        self.requested_at.append(time.time())
        self.peers.add(request.get_extra_info("peername"))
        behaviour, seconds = self._next_behaviour()
        if behaviour == Behaviour.DROP_BEFORE:
            return drop(request)
        refusal, document = await judge(request)
        if self.look is not None and refusal is None:
            behaviour = self.look(document["custom_args"]) or behaviour
        misdeed = await self._misbehave(request, behaviour, seconds)
        if misdeed is not None:
            return misdeed
        if refusal is not None:
            return refusal
        if is_sandboxed(document):
            self.sandboxed += 1
            return web.Response(status=HTTPStatus.OK)
        return await self._answer(request, self._accept(document), behaviour, seconds)

    async def _answer(self, request: web.Request, mail: Received, behaviour: str, seconds: float) -> web.StreamResponse:
        """Of a mail that is taken."""
        if behaviour == Behaviour.DROP_AFTER_ACCEPT:
            return drop(request)
        headers = {"X-Message-Id": mail.message_id, **limits(REQUESTS_PER_WINDOW - 1, 60)}
        if behaviour == Behaviour.SLOW_HEADERS:
            return await self._trickle(request, headers, seconds)
        if behaviour == Behaviour.ENDLESS_BODY:
            return await self._go_on_and_on(request, headers)
        return web.Response(status=HTTPStatus.ACCEPTED, headers=headers)

    async def _trickle(self, request: web.Request, headers: Mapping[str, str], seconds: float) -> web.StreamResponse:
        lines = ["HTTP/1.1 202 Accepted", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        for byte in "\r\n".join(lines).encode():
            if request.transport is None or self._stopping.is_set():
                break
            request.transport.write(bytes([byte]))
            await asyncio.sleep(seconds)
        return drop(request)

    async def _go_on_and_on(self, request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
        response = web.StreamResponse(status=HTTPStatus.ACCEPTED, headers=headers)
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            while not self._stopping.is_set():
                await response.write(b"and so on, ")
                await asyncio.sleep(0.01)
        return drop(request)

    async def _misbehave(self, request: web.Request, behaviour: str, seconds: float) -> web.StreamResponse | None:
        if behaviour.isdecimal():
            return answer_status(int(behaviour), seconds)
        if behaviour == Behaviour.GARBAGE:
            return drop(request, b"\x00\xffthis is not HTTP\r\n\r\n")
        if behaviour == Behaviour.HANG:
            await self._stopping.wait()
            return drop(request)
        if behaviour == Behaviour.SLOW:
            await asyncio.sleep(seconds)
        return None

    def _next_behaviour(self) -> tuple[str, float]:
        if self._times_left == 0:
            self.behave(Behaviour.ACCEPT)
        elif self._times_left is not None:
            self._times_left -= 1
        return self._behaviour, self._seconds

    def _accept(self, document: dict[str, Any]) -> Received:
        mail = Received(
            message_id=secrets.token_urlsafe(16),
            email_id=document.get("custom_args", {}).get(EMAIL_ID_ARG),
            to=recipients(document),
            payload=document,
            at=time.time(),
        )
        self.received.append(mail)
        if self._log is not None:
            self._log.write(json.dumps(asdict(mail)).encode() + b"\n")
        return mail

    def _open_log(self) -> None:
        if self._log_path is None:
            return
        if self._log_path.exists():
            lines = self._log_path.read_text().splitlines()
            self.received = [Received(**json.loads(line)) for line in lines]
        # unbuffered: one write for each line, so that a kill leaves whole lines
        self._log = self._log_path.open("ab", buffering=0)


async def _serve(host: str, port: int, log: Path | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with SendGridStandIn(host=host, port=port, log=log) as stand_in:
        print(f"SendGrid stand-in on {stand_in.base_url}", flush=True)
        await stop.wait()


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description="A stand-in for SendGrid's v3 mail/send.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8025)
    parser.add_argument("--log", type=Path, default=None)
    chosen = parser.parse_args()
    asyncio.run(_serve(chosen.host, chosen.port, chosen.log))


if __name__ == "__main__":
    main()
