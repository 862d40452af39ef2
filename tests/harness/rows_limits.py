"""Bad inputs that are bad by their number, row 23 (leads) and row 79 (guesses), or by where they come from, row 21."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence

from tests.harness.bad_inputs import Ground, Row
from tests.harness.deployment import ADMIN
from tests.harness.raw_http import RawAnswer

PROXY = "127.0.0.2"
"""The one address that the deployment is told to believe when it says who is calling."""

ORIGIN = "https://careers.example"
"""The one origin whose pages the deployment lets in."""

LEADS_A_MINUTE = 60
GUESSES_A_MINUTE = 10
Send = Callable[[Ground], Awaitable[RawAnswer]]

LIMITED = {"rate-limited"}
JSON = ("Content-Type", "application/json")


async def one_address(ground: Ground) -> list[RawAnswer]:
    """All from here: good ones, then some that claim to come from elsewhere, in every way there is to say so."""
    good = await asyncio.gather(*(ground.post(ground.lead()) for _ in range(LEADS_A_MINUTE)))
    claims = [("X-Forwarded-For", f"203.0.113.{n}") for n in range(3)]
    claims += [("X-Forwarded-For", "127.0.0.2"), ("Forwarded", "for=203.0.113.9"), ("X-Real-IP", "203.0.113.9")]
    return [*good, await ground.post(ground.lead()), *[await ground.post(ground.lead(), claim) for claim in claims]]


async def one_network(ground: Ground) -> list[RawAnswer]:
    """Through the proxy, from ever new addresses of one IPv6 /64, and with what callers wrote before the proxy did."""

    async def send(number: int, *before: tuple[str, str]) -> RawAnswer:
        seen = ("X-Forwarded-For", f"2001:db8:0:1::{number:x}")
        return await ground.ask("POST", "/leads", *before, seen, body=b"x", source=PROXY)

    first = [await send(number) for number in range(1, LEADS_A_MINUTE + 1)]
    return [*first, await send(1000), await send(1001, ("X-Forwarded-For", "203.0.113.77"))]


async def another_network(ground: Ground) -> RawAnswer:
    """Somebody else is not made to wait for them."""
    return await ground.post(ground.lead(), ("X-Forwarded-For", "2001:db8:0:2::1"), source=PROXY)


async def many_accounts(ground: Ground) -> list[RawAnswer]:
    """One address guesses at many accounts. Its own sign-in, when this ground was prepared, counts."""
    return [await _guess(ground, f"user{number}@leads.example") for number in range(GUESSES_A_MINUTE + 1)]


async def many_addresses(ground: Ground) -> list[RawAnswer]:
    """Many addresses guess at one account, however they spell it, and with more fields than there are."""
    spelled = (ADMIN, ADMIN.upper(), f" {ADMIN}", ADMIN.title())
    return [
        await _guess(ground, spelled[n % 4], ("X-Forwarded-For", f"198.51.100.{n}"), source=PROXY, email=f"{n}@x.test")
        for n in range(GUESSES_A_MINUTE + 4)
    ]


def preflight(origin: str, method: str, *headers: str) -> Send:
    """What a browser asks before a page's request."""
    asked = [("Origin", origin), ("Access-Control-Request-Method", method)]
    asked += [("Access-Control-Request-Headers", ",".join(headers))] if headers else []
    return lambda ground: ground.ask("OPTIONS", "/leads", *asked)


def from_page(origin: str) -> Send:
    return lambda ground: ground.ask("GET", "/leads", ("Origin", origin))


async def lets_the_page_in(_: Ground, answers: Sequence[RawAnswer]) -> None:
    """That origin by its name, never `*`, and no cookies."""
    assert answers[0].headers["access-control-allow-origin"] == ORIGIN
    assert "origin" in answers[0].headers["vary"].lower()
    assert "access-control-allow-credentials" not in answers[0].headers


async def keeps_the_page_out(_: Ground, answers: Sequence[RawAnswer]) -> None:
    assert "access-control-allow-origin" not in answers[0].headers


async def _guess(
    ground: Ground, username: str, *headers: tuple[str, str], source: str = "127.0.0.1", **more: str
) -> RawAnswer:
    body = json.dumps({"username": username, "password": "a guess", **more}).encode()
    return await ground.ask("POST", "/leads/login", JSON, *headers, body=body, source=source)


async def the_last_ones_wait(_: Ground, answers: Sequence[RawAnswer]) -> None:
    """Once the limit is reached, every further one is told how long to wait; none before."""
    statuses = [one.status for one in answers]
    first = statuses.index(429)
    assert set(statuses[first:]) == {429}
    assert first in (LEADS_A_MINUTE, GUESSES_A_MINUTE, GUESSES_A_MINUTE - 1)
    assert all(0 < int(one.headers["retry-after"]) <= 60 for one in answers[first:])


_FOREIGN = ("https://evil.test", "null", "https://careers.example.evil.test", "http://careers.example", ORIGIN.upper())

LIMIT_ROWS = [
    Row(21, "preflight", preflight(ORIGIN, "POST", "idempotency-key", "content-type"), {200}, (), lets_the_page_in),
    Row(21, "page", from_page(ORIGIN), {401}, {"unauthenticated"}, lets_the_page_in),
    *(Row(21, f"page-of-{one}", from_page(one), {401}, {"unauthenticated"}, keeps_the_page_out) for one in _FOREIGN),
    *(
        Row(21, f"preflight-of-{one}", preflight(one, "POST"), {400}, {"malformed-request"}, keeps_the_page_out)
        for one in _FOREIGN
    ),
    Row(21, "preflight-for-DELETE", preflight(ORIGIN, "DELETE"), {400}, {"malformed-request"}),
    Row(21, "preflight-for-a-header", preflight(ORIGIN, "POST", "x-admin"), {400}, {"malformed-request"}),
    Row(23, "one-address", one_address, {201, 429}, LIMITED, the_last_ones_wait),
    Row(23, "one-network", one_network, {415, 429}, {*LIMITED, "unsupported-media-type"}, the_last_ones_wait),
    Row(23, "another-network", another_network, {201}),
    Row(79, "many-accounts", many_accounts, {401, 429}, {*LIMITED, "unauthenticated"}, the_last_ones_wait,
        memory_mib=192),
    Row(79, "many-addresses", many_addresses, {401, 429}, {*LIMITED, "unauthenticated"}, the_last_ones_wait,
        memory_mib=192),
]  # fmt: skip
