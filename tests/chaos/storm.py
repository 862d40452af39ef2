"""The storm: clients that post leads and keep their own ledger, and kills that come at random moments meanwhile."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256

import aiohttp

from tests.chaos.checker import Attempt
from tests.harness.client import Client
from tests.harness.files import pdf

CONCURRENCY = 16
RESUME_BYTES = 8_000
RETRY_SECONDS = (0.05, 0.3)
NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError)


class Storm:
    """Posts leads, each with a key of its own and again with that key until it is answered for good.

    The ledger is kept here, outside of the system: every attempt, its answer or the lack of one, and when.
    """

    def __init__(self, url: str, name: str, *, dice: random.Random) -> None:
        self.ledger: list[Attempt] = []
        self.accepted = 0
        self._url = url
        self._name = name
        self._dice = dice
        self._progress = asyncio.Condition()

    async def run(self, count: int) -> None:
        """Post `count` leads with 16 clients."""
        numbers = iter(range(count))
        async with asyncio.TaskGroup() as clients:
            for _ in range(CONCURRENCY):
                clients.create_task(self._client(numbers))

    async def reaches(self, accepted: int) -> None:
        """Wait until so many leads were answered with 201."""
        async with self._progress:
            await self._progress.wait_for(lambda: self.accepted >= accepted)

    async def _client(self, numbers: Iterator[int]) -> None:
        async with Client(self._url) as client:
            for number in numbers:
                await self._post(client, f"{self._name}-{number}@example.com", pdf(RESUME_BYTES, seed=number))

    async def _post(self, client: Client, email: str, resume: bytes) -> None:
        hashed = sha256(resume).hexdigest()
        while True:
            status, lead_id = await _try(client, email, resume)
            self.ledger.append(Attempt(email, hashed, status, lead_id, time.time()))
            if status is not None and status != 503:
                break
            await asyncio.sleep(self._dice.uniform(*RETRY_SECONDS))
        async with self._progress:
            self.accepted += status == 201
            self._progress.notify_all()


async def _try(client: Client, email: str, resume: bytes) -> tuple[int | None, str | None]:
    try:
        answer = await client.post_lead(email, resume, headers={"Idempotency-Key": email})
    except NO_ANSWER:
        return None, None
    return answer.status, answer.json["id"] if answer.status == 201 else None


async def run_with_kills(
    storm: Storm, count: int, *, kills: int, dice: random.Random, kill: Callable[[], Awaitable[None]]
) -> None:
    """Post `count` leads, and kill so many times, each time at a random moment while they come in."""
    posting = asyncio.create_task(storm.run(count))
    try:
        for moment in sorted(dice.uniform(0.15, 0.85) for _ in range(kills)):
            await storm.reaches(int(moment * count))
            await asyncio.sleep(dice.uniform(0, 0.05))
            await kill()
        await posting
    finally:
        posting.cancel()
