"""The mail provider of the benchmark: the tests' stand-in for SendGrid as a process of its own, as slow as a real one.

`python -m bench.peers.sendgrid PORT LOG` answers after 20 ms, takes so many requests a second as SendGrid does and
answers the others with 429, and tells at its end how many came.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bench.peers.process import Server
from bench.peers.protocol import Lost
from tests.harness.deployment import free_ports
from tests.harness.sendgrid import Behaviour, Received, SendGridStandIn

ANSWER_SECONDS = 0.020
LIMIT_PER_SECOND = 10_000
"""SendGrid's reference names no number for mail/send; this is the one that its FAQ on v3 Mail Send has named."""


@dataclass(frozen=True)
class Mail:
    """One e-mail that was accepted. `at` is Unix time in seconds."""

    lead_id: str
    kind: str
    at: float


class Provider:
    """The running provider, seen from outside."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "accepted.jsonl"
        self._port = free_ports(1)[0]
        self._url = f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        command = [sys.executable, "-m", "bench.peers.sendgrid", str(self._port), str(self._log)]
        self._server = Server(command, self._folder)
        await self._server.ready(self._url)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.stop()

    @property
    def settings(self) -> dict[str, str]:
        """What Leads must be told to send by this provider."""
        return {
            "SENDGRID_API_KEY": "SG.benchmark",
            "SENDGRID_BASE_URL": self._url,
            "LEADS_STAFF_EMAIL": "staff@bench.example",
        }

    def accepted(self) -> int:
        """How many e-mails so far."""
        return self._log.read_bytes().count(b"\n")

    def mails(self) -> list[Mail]:
        """Those of every lead, in the order in which they were accepted. Raises `Lost` when one came twice."""
        lines = [json.loads(line) for line in self._log.read_bytes().splitlines()]
        mails = [Mail(line["payload"]["lead_id"], line["payload"]["kind"], line["at"]) for line in lines]
        if len({(mail.lead_id, mail.kind) for mail in mails}) != len(mails):
            raise Lost("an e-mail was accepted twice")
        return mails

    def stop(self) -> "Requests":
        """End it, and hear what it counted."""
        self._server.stop()
        return Requests(**json.loads(self._server.output().splitlines()[-1]))


@dataclass(frozen=True)
class Requests:
    """What came to the provider."""

    count: int
    over_the_limit: int
    busiest_second: int


class _StandIn(SendGridStandIn):
    """Keeps of each e-mail only whose it is: their texts would fill the memory."""

    def __init__(self, port: int, log: Path) -> None:
        super().__init__(port=port, log=log)
        self.behave(Behaviour.SLOW, seconds=ANSWER_SECONDS)
        self.look = self._refuse_over_limit
        self.over_the_limit = 0
        self.busiest_second = 0
        self._second = 0
        self._in_this_second = 0

    def _refuse_over_limit(self, _arguments: Mapping[str, str]) -> str | None:
        second = int(time.monotonic())
        self._in_this_second = self._in_this_second + 1 if second == self._second else 1
        self._second = second
        self.busiest_second = max(self.busiest_second, self._in_this_second)
        if self._in_this_second <= LIMIT_PER_SECOND:
            return None
        self.over_the_limit += 1
        return "429"

    def _accept(self, document: dict[str, Any]) -> Received:
        custom_args = document["custom_args"]
        whose = {name: custom_args[name] for name in ("lead_id", "kind")}
        return super()._accept({**whose, "personalizations": document["personalizations"]})


async def _serve(port: int, log: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with _StandIn(port, log) as stand_in:
        await stop.wait()
    counted = {"count": stand_in.requests, "over_the_limit": stand_in.over_the_limit}
    print(json.dumps({**counted, "busiest_second": stand_in.busiest_second}), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), Path(sys.argv[2])))
