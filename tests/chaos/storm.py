"""The storm: clients that post leads and keep their own ledger of it, outside of the system."""

import asyncio
import itertools
import random
import re
import time
from collections.abc import Iterator
from hashlib import sha256

import aiohttp

from tests.chaos.checker import Attempt
from tests.harness.client import Answer, Client
from tests.harness.files import pdf

CLIENTS = 16
IMPATIENT = 4
"""So many clients give up when an answer does not come. What became of their lead is for the checker to find."""

RESUME_BYTES = 8_000
LONG_RESUME_BYTES = 200_000
LONG_EVERY = 16
"""One resume in so many is too long to be held, and is streamed through api and storage (over 128 KiB)."""

RETRY_SECONDS = (0.05, 0.3)
NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError)


class Storm:
    """Posts leads, each with a key of its own, and again with that key until it is answered for good.

    `ledger` has every attempt, its answer or the lack of one, and when.
    """

    def __init__(self, url: str, name: str, *, dice: random.Random, pause_seconds: float = 0.0) -> None:
        """Between two leads a client rests for `pause_seconds` on average."""
        self.ledger: list[Attempt] = []
        self.answered = 0
        """Leads answered with 201."""
        self.gave_up = 0
        self.waits: list[tuple[float, float]] = []
        """Of each answer with 201: when its request began (`time.monotonic`), and how many seconds it took."""
        self._url = url
        self._name = re.sub(r"[^a-z0-9]+", "-", name.lower())  # becomes part of addresses
        self._dice = dice
        self._pause_seconds = pause_seconds
        self._progress = asyncio.Condition()
        self._is_over = False

    async def run(self, count: int | None = None) -> None:
        """Post `count` leads with 16 clients, or leads until `end`."""
        numbers = itertools.count() if count is None else iter(range(count))
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(self._client(numbers, is_patient=number >= IMPATIENT))

    def end(self) -> None:
        """No lead is begun any more."""
        self._is_over = True

    async def reaches(self, count: int) -> None:
        """Wait until so many leads were answered with 201, or given up."""
        async with self._progress:
            await self._progress.wait_for(lambda: self.answered + self.gave_up >= count)

    async def _client(self, numbers: Iterator[int], *, is_patient: bool) -> None:
        async with Client(self._url) as client:
            for number in itertools.takewhile(lambda _: not self._is_over, numbers):
                email, resume = f"{self._name}-{number}@example.com", _resume(number)
                is_answered = await self._post(client, email, resume, is_patient=is_patient)
                async with self._progress:
                    self.answered += is_answered
                    self.gave_up += not is_answered
                    self._progress.notify_all()
                await asyncio.sleep(self._dice.uniform(0, 2 * self._pause_seconds))

    async def _post(self, client: Client, email: str, resume: bytes, *, is_patient: bool) -> bool:
        """Whether it was answered with 201. Fails on a refusal: there is nothing wrong with these leads."""
        hashed = sha256(resume).hexdigest()
        while True:
            began_at = time.monotonic()
            try:
                answer = await _try(client, email, resume)
            except aiohttp.ClientConnectorError:
                pass  # nobody there: no attempt, and nothing to give up
            else:
                status = answer.status if answer else None
                self.ledger.append(_attempt(email, hashed, answer))
                assert status in {201, 503, None}, f"{email} was answered {status}"
                if status == 201:
                    self.waits.append((began_at, time.monotonic() - began_at))
                    return True
                if status is None and not is_patient:
                    return False
            await asyncio.sleep(self._dice.uniform(*RETRY_SECONDS))


def _resume(number: int) -> bytes:
    return pdf(RESUME_BYTES if number % LONG_EVERY else LONG_RESUME_BYTES, seed=number)


async def _try(client: Client, email: str, resume: bytes) -> Answer | None:
    try:
        return await client.post_lead(email, resume, headers={"Idempotency-Key": email})
    except aiohttp.ClientConnectorError:
        raise
    except NO_ANSWER:
        return None


def _attempt(email: str, hashed: str, answer: Answer | None) -> Attempt:
    if answer is None:
        return Attempt(email, hashed, None, None, time.time())
    lead_id = answer.json["id"] if answer.status == 201 else None
    is_replay = answer.headers.get("Idempotency-Replayed") == "true"
    return Attempt(email, hashed, answer.status, lead_id, time.time(), is_replay=is_replay)
