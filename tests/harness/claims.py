"""A big resume by ticket from outside: the ticket, the way to the storage, and the lead that claims it."""

from collections.abc import Mapping
from typing import Any

from tests.harness.client import Answer, Client
from tests.harness.files import pdf
from tests.harness.sizes import House
from tests.harness.tus import Sender

PUBLIC_URL = "https://uploads.example.com"
SMALL = pdf(300_000)
SWEEP_SECONDS = 0.3


async def wanted(client: Client, size_bytes: Any, filename: Any = "cv.pdf") -> Answer:
    """The answer to who asks for a ticket for a file of that name and size."""
    return await client.call("POST", "/leads/uploads", json={"filename": filename, "size_bytes": size_bytes})


async def a_ticket(client: Client, body: bytes, filename: str = "cv.pdf") -> Mapping[str, Any]:
    """The offer for a resume of those bytes: `upload_url`, `ticket`, and until when."""
    answer = await wanted(client, len(body), filename)
    assert answer.status == 201, answer.json
    return dict(answer.json)


def sender(house: House, offer: Mapping[str, Any]) -> Sender:
    """The storage's own door: in front of it there would be a proxy with the public name."""
    return Sender(offer["upload_url"].replace(PUBLIC_URL, house.deployment.url("storage")), offer["ticket"])


async def sent(house: House, client: Client, body: bytes, filename: str = "cv.pdf") -> str:
    """The ticket of a resume that has come."""
    offer = await a_ticket(client, body, filename)
    async with sender(house, offer) as upload:
        assert (await upload.send(body, 0)).status == 204
    return str(offer["ticket"])


async def claim(client: Client, email: str, ticket: Any, *, headers: Mapping[str, str] | None = None) -> Answer:
    """The answer to a lead that is sent as JSON with that ticket."""
    lead = {"first_name": "Ann", "last_name": "Lee", "email": email, "ticket": ticket}
    return await client.call("POST", "/leads", json=lead, headers=headers or {})


def refused(answer: Answer, status: int, problem: str) -> None:
    """Fails unless the answer is that refusal."""
    assert (answer.status, answer.json["type"]) == (status, f"urn:leads:problem:{problem}"), answer.json
