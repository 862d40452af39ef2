"""A deployment as a state machine handles it: one call after the other, each returning when it is done.

Hypothesis runs rules one by one and outside of any event loop; the stand-in for SendGrid and the clients live in one
that goes on in a thread of its own (anyio's blocking portal).
"""

import asyncio
import itertools
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal

from tests.chaos.checker import Attempt, Facts
from tests.chaos.collect import facts_at_rest
from tests.chaos.model import Form, Row
from tests.chaos.rig import RETRY_DELAYS_SECONDS
from tests.chaos.storm import NO_ANSWER
from tests.harness.bad_inputs import FORM_TYPE
from tests.harness.client import Answer, Client
from tests.harness.commands import leads
from tests.harness.deployment import ADMIN, PASSWORD, ROOMS
from tests.harness.kept import rows
from tests.harness.raw_http import Part, connection, form, head
from tests.harness.sizes import House

FIRST_NAME = "Ann"
T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """One lead as the staff see it. `sha256` is of the downloaded resume; None when it could not be downloaded."""

    view: dict[str, Any]
    etag: str
    sha256: str | None


class System:
    """All rooms of one deployment, and which of them are down."""

    def __init__(self, portal: BlockingPortal, house: House) -> None:
        self.house = house
        self.deployment = house.deployment
        self.down: set[str] = set()
        self.ledger: list[Attempt] = []
        """What clients know to be kept, over all runs on this deployment."""
        self.numbers = itertools.count()
        """Of forms, over all runs: no address and no key comes again by chance."""
        self.rested = True
        """Whether the run before came to a good end: another one may follow it here."""
        self._portal = portal
        self._token = self._run(_token(self.deployment.api_url))

    def post(self, sent: Form) -> Answer | None:
        """Send a form. None: no answer."""
        return self._run(self._post(sent))

    def post_while_killing(self, sent: Form, room: str, delay_seconds: float) -> Answer | None:
        """Send a form; kill -9 the room meanwhile."""
        return self._while_killing(self._post(sent), room, delay_seconds)

    def cut(self, sent: Form, share: float) -> None:
        """Send only this share of the request, or all of it, and close without reading an answer."""
        self._run(_cut(self.deployment.ports["api"], sent, share))

    def move(self, lead_id: str, state: str, if_match: str | None, *, times: int = 1) -> list[Answer | None]:
        """Ask for a move, so many times at once."""
        return self._run(_all([self._move(lead_id, state, if_match) for _ in range(times)]))

    def move_while_killing(self, lead_id: str, state: str, delay_seconds: float) -> Answer | None:
        """Ask for a move; kill -9 the api meanwhile."""
        return self._while_killing(self._move(lead_id, state, None), "api", delay_seconds)

    def look(self, lead_ids: Sequence[str]) -> tuple[int, dict[str, Seen | int]]:
        """The number of leads as listed, and each of these as the staff see it: or the status, if not 200."""
        return self._run(self._look(lead_ids))

    def kill(self, room: str) -> None:
        """kill -9."""
        self.deployment.kill(room)
        self.down.add(room)

    def stop(self, room: str) -> int:
        """SIGTERM; returns the exit status."""
        self.down.add(room)
        return self._run(self.deployment.stop(room))

    def start(self) -> None:
        """Start whatever is down, and wait until it is ready."""
        down = [room for room in ROOMS if room in self.down]
        for room in down:
            self.deployment.launch(room)
        for room in down:
            self._run(self.deployment.ready(room))
        self.down.clear()

    def replay(self) -> str:
        """Put all dead letters back to work; what the command printed."""
        return self._run(leads(self.deployment, "queues", "replay")).output

    def rest(self, known: Iterable[Attempt], patience_seconds: float) -> Facts:
        """The facts at rest, or when patience has run out."""
        ledger = [*self.ledger, *known]
        find = partial(facts_at_rest, patience_seconds=patience_seconds)
        return self._run(find(self.house, ledger, RETRY_DELAYS_SECONDS))

    def rows(self) -> list[Row]:
        """The leads, behind the api's back."""
        columns = "id, last_name, email, resume_sha256, state, version, resume_path"
        return [Row(*row) for row in rows(self.deployment.leads_db, f"SELECT {columns} FROM leads")]

    def emails(self) -> dict[str, tuple[str, int]]:
        """State and attempts of each e-mail by id, behind the notifier's back."""
        found = rows(self.deployment.notifier_db, "SELECT id, lower(state), attempts FROM emails")
        return {email_id: (state, attempts) for email_id, state, attempts in found}

    def blob(self, row: Row) -> Path:
        """Where the lead's resume lies."""
        return self.deployment.resumes / row.blob

    def blob_sha256(self, row: Row) -> str | None:
        """Of the lead's resume, behind the storage's back; None when it is not there."""
        blob = self.blob(row)
        return sha256(blob.read_bytes()).hexdigest() if blob.exists() else None

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        async def wait() -> T:
            return await work

        return self._portal.call(wait)

    def _while_killing(self, call: Coroutine[Any, Any, T], room: str, delay_seconds: float) -> T:
        async def both() -> T:
            called = asyncio.ensure_future(call)
            await asyncio.sleep(delay_seconds)
            self.kill(room)
            return await called

        return self._run(both())

    async def _post(self, sent: Form) -> Answer | None:
        headers = {"Idempotency-Key": sent.key} if sent.key else {}
        async with Client(self.deployment.api_url) as client:
            name = {"first_name": FIRST_NAME, "last_name": sent.last_name}
            return await _answered(client.post_lead(sent.email, sent.resume, **name, headers=headers))

    async def _move(self, lead_id: str, state: str, if_match: str | None) -> Answer | None:
        async with self._staff() as client:
            headers = {"If-Match": if_match} if if_match else {}
            return await _answered(client.call("PATCH", f"/leads/{lead_id}", json={"state": state}, headers=headers))

    async def _look(self, lead_ids: Sequence[str]) -> tuple[int, dict[str, Seen | int]]:
        async with self._staff() as client:
            page = await client.call("GET", "/leads?limit=1&total=true")
            return page.json["total"], {lead_id: await _see(client, lead_id) for lead_id in lead_ids}

    def _staff(self) -> Client:
        client = Client(self.deployment.api_url)
        client.token = self._token
        return client


class Systems:
    """Systems to run on: the one at hand as long as runs end well, a new one otherwise."""

    def __init__(self, portal: BlockingPortal, new_house: Any) -> None:
        self._portal = portal
        self._new_house = new_house
        self._opened = ExitStack()
        self._at_hand: System | None = None

    def take(self) -> System:
        """A system at rest."""
        if self._at_hand is None or not self._at_hand.rested:
            self.close()
            house = self._opened.enter_context(self._portal.wrap_async_context_manager(self._new_house()))
            self._at_hand = System(self._portal, house)
        self._at_hand.rested = False
        return self._at_hand

    def close(self) -> None:
        """End what runs."""
        self._at_hand = None
        self._opened.close()


async def _answered(call: Coroutine[Any, Any, Answer]) -> Answer | None:
    try:
        return await call
    except NO_ANSWER:
        return None


async def _all(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    return await asyncio.gather(*calls)


async def _see(client: Client, lead_id: str) -> Seen | int:
    lead = await client.call("GET", f"/leads/{lead_id}")
    if lead.status != 200:
        return lead.status
    resume = await client.call("GET", f"/leads/{lead_id}/resume")
    return Seen(lead.json, lead.headers["ETag"], sha256(resume.body).hexdigest() if resume.status == 200 else None)


async def _cut(port: int, sent: Form, share: float) -> None:
    fields = {"first_name": FIRST_NAME, "last_name": sent.last_name, "email": sent.email}
    parts = [Part(name, value.encode()) for name, value in fields.items()]
    body = form([*parts, Part("resume", sent.resume, filename="cv.pdf")])
    key = [("Idempotency-Key", sent.key)] if sent.key else []
    request = head("POST", "/leads", [FORM_TYPE, ("Content-Length", str(len(body))), *key])
    async with connection(port) as (_, writer):
        writer.write(request + body[: int(share * len(body))])
        await writer.drain()


async def _token(url: str) -> str:
    async with Client(url) as client:
        assert (await client.login(ADMIN, PASSWORD)).status == 200
        assert client.token is not None
        return client.token
