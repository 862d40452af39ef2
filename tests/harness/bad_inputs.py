"""The table of bad inputs: what a row is, the ground it is tried on, and the checks after it.

The rows themselves are in `rows_*`, by sections of the list of bad inputs; what must hold after every one of them
(I2 to I6) is in `invariants`.
"""

import asyncio
import hashlib
import itertools
import json
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Any

from tests.harness import files
from tests.harness.client import Client
from tests.harness.deployment import ADMIN, PASSWORD, Deployment
from tests.harness.invariants import Logs, Pulse, Surroundings, Vitals, blob_hash, settle, tally
from tests.harness.mailbox import read_mails
from tests.harness.raw_http import BOUNDARY, Part, RawAnswer, exchange, form, head

FORM_TYPE = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
CANARY = "only-this-resume-says-so"
RESUME = files.pdf(4096, content=CANARY.encode())
PROBLEM = "application/problem+json"
TYPE_PREFIX = "urn:leads:problem:"
QUICK_SECONDS = 2.0
"""For rows that want an answer within 200 ms of CPU time; a noisy machine gets more by the clock."""

_INTERNALS = re.compile(
    r"Traceback|File \"|\.py\b|/(?:work|usr|tmp|home|etc|var)/|site-packages|sqlalchemy|sqlite|SELECT |INSERT |UPDATE "
    r"|uvicorn|starlette|fastapi|python|aiohttp|httptools|[a-z]Error\b|Exception|errno",
    re.IGNORECASE,
)

Answers = RawAnswer | Sequence[RawAnswer]


@dataclass(frozen=True)
class Row:
    """One bad (or oddly good) input and the answers that are right for it. Status 0: the connection was closed."""

    number: int
    name: str
    send: Callable[["Ground"], Awaitable[Answers]]
    statuses: Collection[int]
    types: Collection[str] = ()
    """Problem types that are right for the refusals among the statuses."""

    also: Callable[["Ground", Sequence[RawAnswer]], Awaitable[None]] | None = None
    within_seconds: float = 30.0
    memory_mib: int = 64
    healthy_seconds: float | None = None
    """What a healthy caller may have to wait meanwhile, if not as the pulse says."""

    dropped_mails: int = 0
    dead_letters: int = 0
    on_tiny_disk: bool = False
    troubled: bool = False
    """Rooms are stopped, killed or hindered meanwhile: no healthy caller beside it, and errors may be logged."""

    def __str__(self) -> str:
        return f"{self.number}-{self.name}"


class Ground:
    """A running deployment, what it should hold by now, and ways to send things to it."""

    def __init__(self, deployment: Deployment, client: Client) -> None:
        self.deployment = deployment
        self.client = client
        self.port = deployment.ports["api"]
        self.vitals = Vitals(deployment)
        self.expected = tally(deployment)
        self._pulse = Pulse(self._healthy, self.vitals)
        self._surroundings = Surroundings(deployment)
        words = {"a resume's content": CANARY, "an address": "@", "a token": "eyJ", "a password": PASSWORD}
        self._logs = Logs(deployment, words)
        self._numbers = itertools.count(1)
        self._sent_hashes: set[str] = set()
        self._mails_before = self.expected.mails
        self.some_lead_id = ""
        self.no_tiny_disk = ""
        """Why rows `on_tiny_disk` cannot be tried here."""

    def fresh_email(self) -> str:
        """An address that nobody has used yet."""
        return f"p{next(self._numbers)}@people.test"

    def lead(self, **other: bytes | str) -> list[Part]:
        """The parts of a good form, with `other` values for some of them (`filename` among them)."""
        texts = {"first_name": "Ann", "last_name": "Lee", "email": self.fresh_email(), **other}
        resume, filename = other.get("resume", RESUME), str(other.get("filename", "cv.pdf"))
        parts = [Part(name, _bytes(texts[name])) for name in ("first_name", "last_name", "email")]
        return [*parts, Part("resume", _bytes(resume), filename)]

    async def post(self, parts: Sequence[Part], *headers: tuple[str, str], **options: Any) -> RawAnswer:
        """Send a form to `/leads`."""
        for part in parts:
            if part.name == "resume":
                self.expect_resume(part.content)
        return await self.post_body(form(parts), *headers, **options)

    def expect_resume(self, content: bytes) -> None:
        """Know a resume again when it is stored."""
        self._sent_hashes.add(hashlib.sha256(content).hexdigest())

    async def post_body(self, body: bytes, *headers: tuple[str, str], **options: Any) -> RawAnswer:
        """Send these bytes as a form to `/leads`."""
        return await self.ask("POST", "/leads", FORM_TYPE, *headers, body=body, **options)

    async def ask(
        self, method: str, target: str, *headers: tuple[str, str], body: bytes | None = None, **options: Any
    ) -> RawAnswer:
        """Any request. Content-Length is set when there is a body."""
        length = [] if body is None else [("Content-Length", str(len(body)))]
        return await self.raw(head(method, target, [*headers, *length]), body or b"", **options)

    async def ask_as_staff(self, method: str, target: str, *headers: tuple[str, str], **options: Any) -> RawAnswer:
        """A request with a good staff token."""
        return await self.ask(method, target, ("Authorization", f"Bearer {self.client.token}"), *headers, **options)

    async def raw(self, *pieces: bytes | AsyncIterable[bytes], **options: Any) -> RawAnswer:
        """Bytes, whatever they are."""
        return await exchange(self.port, *pieces, **options)

    def new_mails(self) -> list[EmailMessage]:
        """The e-mails of the row that was tried last."""
        return read_mails(self.deployment.mailbox)[self._mails_before :]

    async def get_ready(self) -> None:
        """Send some good leads at once, so that pools are open and modules loaded, then measure an idle moment."""
        answers = await asyncio.gather(*(self.post(self.lead()) for _ in range(24)))
        await asyncio.gather(*(self._healthy() for _ in range(24)))
        assert [answer.status for answer in answers] == [201] * 24
        self.some_lead_id = str(answers[0].json["id"])
        self.expected = self.expected.plus(24, 48)
        await settle(self.deployment, self.expected)
        self.vitals = self._pulse.vitals = Vitals(self.deployment)
        await self._pulse.rest()

    async def try_out(self, row: Row) -> None:
        """Send the row's input, judge the answers, and check that everything else is as it should be."""
        self._mails_before = self.expected.mails
        self.vitals.begin()
        try:
            answers = await self._send(row)
            created = [one for one in answers if one.status == 201 and "idempotency-replayed" not in one.headers]
            mails = 2 * len(created) - row.dropped_mails
            self.expected = self.expected.plus(len(created), mails, row.dead_letters)
            await settle(self.deployment, self.expected)
        except BaseException:
            self.expected = tally(self.deployment)  # so that the next row is judged for itself
            raise
        self._check_blobs(created)
        await self._check_processes(row)
        self._surroundings.check()
        self._check_logs(row)
        if row.also:
            await row.also(self, answers)

    async def _send(self, row: Row) -> Sequence[RawAnswer]:
        began_at = time.perf_counter()
        sending = row.send(self)
        answers = _several(await sending if row.troubled else await self._pulse.beside(sending, row.healthy_seconds))
        assert time.perf_counter() - began_at < row.within_seconds
        for answer in answers:
            check_answer(row, answer)
        return answers

    def _check_blobs(self, created: Sequence[RawAnswer]) -> None:
        for answer in created:
            said = answer.json["resume"]["sha256"]
            assert said in self._sent_hashes
            assert blob_hash(self.deployment, answer.json["resume_path"]) == said

    async def _check_processes(self, row: Row) -> None:
        if row.troubled:
            self.vitals = self._pulse.vitals = Vitals(self.deployment)
        self.vitals.check_memory(row.memory_mib)
        await self.vitals.check_fds()
        self.vitals.check_connections()

    def _check_logs(self, row: Row) -> None:
        records = self._logs.news()
        loud = [one for one in records if one["level"] in ("error", "critical") or "exception" in one]
        assert row.troubled or len(loud) == row.dead_letters, loud

    async def _healthy(self) -> int:
        return (await self.client.call("GET", "/leads?limit=1")).status


@asynccontextmanager
async def prepared(deployment: Deployment, *, rested: bool = True) -> AsyncIterator[Ground]:
    """A ground to try rows on, and a last look when all have been tried."""
    async with Client(deployment.api_url) as client:
        assert (await client.login(ADMIN, PASSWORD)).status == 200
        found = Ground(deployment, client)
        if rested:
            await found.get_ready()
        yield found
        await asyncio.sleep(0.5)
        assert tally(deployment) == found.expected


def check_answer(row: Row, answer: RawAnswer) -> None:
    """I1: the right status, and a refusal in the one shape, with words for a person and nothing of our insides."""
    assert answer.status in row.statuses, (answer, row.statuses)
    if answer.status < 400 or answer.headers.get("content-length") == "0":
        return
    if not answer.body and row.name.startswith("HEAD"):
        return
    assert answer.headers["content-type"] == PROBLEM
    assert answer.headers["x-correlation-id"]
    said = json.loads(answer.body)
    assert said["status"] == answer.status
    assert said["type"].removeprefix(TYPE_PREFIX) in row.types, said
    assert said["type"].startswith(TYPE_PREFIX)
    assert len(said["title"]) > 5
    assert len(said["detail"].split()) > 2
    assert not _INTERNALS.search(answer.body.decode())
    if said["type"] == TYPE_PREFIX + "invalid-fields":
        assert said["errors"]
        assert all(set(one) == {"field", "detail"} and one["field"] and one["detail"] for one in said["errors"])


def fields_at_fault(answer: RawAnswer) -> list[str]:
    """The fields that a 422 names."""
    return [one["field"] for one in answer.json["errors"]]


def _several(answers: Answers) -> Sequence[RawAnswer]:
    return [answers] if isinstance(answers, RawAnswer) else answers


def _bytes(value: bytes | str) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
