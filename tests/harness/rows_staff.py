"""Bad inputs, section F: tokens, sign-in, and what staff may do with a lead."""

import asyncio
import base64
import hashlib
import hmac
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.api import staff
from services.api.tables import Role
from shared.database import Database
from tests.harness.bad_inputs import Ground, Row
from tests.harness.deployment import ADMIN, PASSWORD
from tests.harness.raw_http import RawAnswer, exchange, head

Send = Callable[[Ground], Awaitable[RawAnswer | list[RawAnswer]]]

NOBODY = {"unauthenticated"}
INVALID = {"invalid-fields"}
JSON = ("Content-Type", "application/json")
SAMPLES = 12
TIMES_ALIKE = (0.6, 1.7)
"""How the medians of two sign-ins that fail may differ on a noisy machine; without the dummy hash it is 1 to 50."""


def with_token(token: str | Callable[[Ground], str], target: str = "/leads") -> Send:
    """A staff route, with that token."""
    return lambda g: g.ask("GET", target, ("Authorization", f"Bearer {token if isinstance(token, str) else token(g)}"))


def asked(method: str, target: str, *headers: tuple[str, str], body: bytes | None = None) -> Send:
    """A request with a good token."""
    return lambda ground: ground.ask_as_staff(method, target, *headers, body=body)


def with_headers(*values: str) -> Send:
    """A staff route, with those Authorization headers; `TOKEN` stands for a good token."""
    return lambda g: g.ask(
        "GET", "/leads", *(("Authorization", value.replace("TOKEN", str(g.client.token))) for value in values)
    )


def made(header: dict[str, Any] | None = None, key: str | None = None, **claims: Any) -> Callable[[Ground], str]:
    """A token that differs from a good one in some claims (None: left out), its header, or the key."""

    def make(ground: Ground) -> str:
        now = int(time.time())
        good = {"iss": "leads", "aud": "leads-staff", "sub": ADMIN, "iat": now, "exp": now + 600, "ver": 1, **claims}
        payload = {name: value for name, value in good.items() if value is not None}
        head = {"typ": "at+jwt", "alg": "HS256", **(header or {})}
        return sign(head, payload, secret(ground) if key is None else key)

    return make


def sign(header: dict[str, Any], payload: dict[str, Any], key: str) -> str:
    """A JWT by hand: the library would refuse to make most of these."""
    text = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(payload).encode())}"
    algorithm = {"HS384": hashlib.sha384, "HS512": hashlib.sha512}.get(str(header.get("alg")), hashlib.sha256)
    unsigned = str(header.get("alg")).lower() == "none"
    return f"{text}.{'' if unsigned else _b64(hmac.new(key.encode(), text.encode(), algorithm).digest())}"


def secret(ground: Ground) -> str:
    return ground.deployment.environment["LEADS_JWT_SECRET"]


def of_the_service(ground: Ground) -> str:
    """A good token, but the one by which the api opens the storage."""
    now = int(time.time())
    claims = {"iss": "leads", "aud": "leads-storage", "sub": "api", "iat": now, "exp": now + 100}
    return sign({"typ": "service+jwt", "alg": "HS256"}, claims, ground.deployment.environment["LEADS_SERVICE_SECRET"])


def with_huge_numbers(ground: Ground) -> str:
    """`exp` as a number that no clock and hardly a float can hold."""
    token = made(exp=1)(ground)
    header, payload, _ = token.split(".")
    claims = base64.urlsafe_b64decode(payload + "==").replace(b'"exp": 1', b'"exp": 1e400')
    text = f"{header}.{_b64(claims)}"
    return f"{text}.{_b64(hmac.new(secret(ground).encode(), text.encode(), hashlib.sha256).digest())}"


async def staff_token_at_the_storage(ground: Ground) -> RawAnswer:
    token = [("Authorization", f"Bearer {ground.client.token}")]
    start = head("GET", "/blobs?stored_before=2030-01-01T00:00:00Z", token)
    return await exchange(ground.deployment.ports["storage"], start)


async def after_disabling(ground: Ground) -> list[RawAnswer]:
    """A user's token right after the user was disabled, after a new password, and for nobody at all."""
    email, database = "leaver@leads.example", Database(ground.deployment.settings().resolved_database_url)
    try:
        await staff.add_user(database, email, PASSWORD, Role.STAFF)
        token = (await sign_in(ground, email, PASSWORD)).json["access_token"]
        good = await with_token(token)(ground)
        assert isinstance(good, RawAnswer)
        assert good.status == 200
        await staff.disable_user(database, email)
        refused = [await with_token(token)(ground), await sign_in(ground, email, PASSWORD)]
        await staff.set_password(database, email, PASSWORD + "2")
        refused += [await with_token(token)(ground), await sign_in(ground, email, PASSWORD)]
        return [one for one in refused if isinstance(one, RawAnswer)]
    finally:
        await database.close()


async def sign_in(ground: Ground, username: str, password: str) -> RawAnswer:
    body = json.dumps({"username": username, "password": password}).encode()
    return await ground.ask("POST", "/leads/login", JSON, body=body)


async def unknown_and_wrong(ground: Ground) -> list[RawAnswer]:
    """An unknown name and a wrong password, in turns: same answer, same time."""
    answers, seconds = [], {"nobody@leads.example": [], ADMIN: []}  # type: ignore[var-annotated]
    for _ in range(SAMPLES):
        for name, taken in seconds.items():
            began_at = time.perf_counter()
            answers.append(await sign_in(ground, name, "a wrong password"))
            taken.append(time.perf_counter() - began_at)
    unknown, wrong = (statistics.median(taken) for taken in seconds.values())
    assert TIMES_ALIKE[0] < unknown / wrong < TIMES_ALIKE[1], (unknown, wrong)
    return answers


async def all_alike(_: Ground, answers: Sequence[RawAnswer]) -> None:
    assert len({(one.status, one.body) for one in answers}) == 1
    assert {one.headers["www-authenticate"] for one in answers} == {"Bearer"}


async def says_how_to_sign_in(_: Ground, answers: Sequence[RawAnswer]) -> None:
    assert answers[0].headers["www-authenticate"].startswith("Bearer")


async def moved(ground: Ground, body: bytes, *headers: tuple[str, str], lead_id: str) -> RawAnswer:
    return await ground.ask_as_staff("PATCH", f"/leads/{lead_id}", JSON, *headers, body=body)


def patched(body: bytes, *headers: tuple[str, str]) -> Send:
    return lambda ground: moved(ground, body, *headers, lead_id=ground.some_lead_id)


def patched_as(kind: str) -> Send:
    """A body that would be right if it did not say that it is something else."""

    async def send(ground: Ground) -> RawAnswer:
        said, body = ("Content-Type", kind), b'{"state": "REACHED_OUT"}'
        return await ground.ask_as_staff("PATCH", f"/leads/{ground.some_lead_id}", said, body=body)

    return send


async def twice_and_back(ground: Ground) -> list[RawAnswer]:
    """Reached out twice is fine, back to pending is not."""
    lead_id = ground.some_lead_id
    states = ("REACHED_OUT", "REACHED_OUT", "PENDING")
    answers = [await moved(ground, json.dumps({"state": state}).encode(), lead_id=lead_id) for state in states]
    assert [one.status for one in answers] == [200, 200, 409]
    return answers


async def two_staff_at_once(ground: Ground) -> list[RawAnswer]:
    """Both read version 1 and say so; one of them is first."""
    other = (await ground.client.call("GET", "/leads?limit=1&state=PENDING")).json["items"][0]["id"]
    tag = (await ground.ask_as_staff("GET", f"/leads/{other}")).headers["etag"]
    body = b'{"state": "REACHED_OUT"}'
    answers = await asyncio.gather(*(moved(ground, body, ("If-Match", tag), lead_id=other) for _ in range(2)))
    assert sorted(one.status for one in answers) in ([200, 412], [200, 200])
    assert (await ground.ask_as_staff("GET", f"/leads/{other}")).headers["etag"] == '"2"'
    return list(answers)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_OTHER_KEY = "k" * 48
_FORGED = {
    "alg-none": made({"alg": "none"}),
    "alg-NoNe": made({"alg": "NoNe"}),
    "alg-HS512": made({"alg": "HS512"}),
    "alg-RS256": made({"alg": "RS256"}),
    "alg-missing": made({"alg": None}),
    "empty-key": made(key=""),
    "other-key": made(key=_OTHER_KEY),
    "kid-path": made({"kid": "../../dev/null"}, key=""),
    "kid-sql": made({"kid": "' UNION SELECT 'k"}, key="k"),
    "jku": made({"jku": "http://127.0.0.1:9/jwks.json"}),
    "x5u": made({"x5u": "http://127.0.0.1:9/x5u"}),
    "jwk": made({"jwk": {"kty": "oct", "k": "AA"}}),
    "crit": made({"crit": ["b64"], "b64": False}),
    "crit-unknown": made({"crit": ["urn:x"], "urn:x": 1}),
    "typ-JWT": made({"typ": "JWT"}),
    "typ-missing": made({"typ": None}),
    "iss-other": made(iss="evil"),
    "iss-substring": made(iss="lead"),
    "iss-missing": made(iss=None),
    "iss-list": made(iss=["leads"]),
    "aud-other": made(aud="leads-storage"),
    "aud-substring": made(aud="leads"),
    "aud-list": made(aud=["leads-staff", "x"]),
    "aud-missing": made(aud=None),
    "sub-missing": made(sub=None),
    "sub-number": made(sub=7),
    "sub-unknown": made(sub="nobody@leads.example"),
    "sub-object": made(sub={"a": 1}),
    "exp-past": made(exp=1),
    "exp-missing": made(exp=None),
    "exp-text": made(exp="soon"),
    "exp-1e400": with_huge_numbers,
    "exp-ten-years": made(exp=int(time.time()) + 315_360_000),
    "nbf-future": made(nbf=int(time.time()) + 9999),
    "iat-future": made(iat=int(time.time()) + 9999),
    "iat-missing": made(iat=None),
    "iat-object": made(iat={}),
    "ver-other": made(ver=2),
    "ver-missing": made(ver=None),
    "service-token": of_the_service,
    "no-dots": lambda _: "abc",
    "many-dots": lambda _: "a.b.c.d.e",
    "not-base64": lambda _: "!!.??.__",
    "long": lambda _: "a" * 8000,
    "deep-json": lambda _: f"{_b64(b'[' * 5000)}.{_b64(b'[' * 5000)}.x",
    "payload-is-a-list": lambda g: sign({"alg": "HS256", "typ": "at+jwt"}, [1], secret(g)),  # type: ignore[arg-type]
}
_LOGINS = {
    "deep-json": (JSON, b"[" * 60_000),
    "no-json": (JSON, b"{"),
    "a-list": (JSON, b"[]"),
    "numbers": (JSON, b'{"username": 1, "password": 2}'),
    "nulls": (JSON, b'{"username": null, "password": null}'),
    "not-utf8": (JSON, b'{"username": "\xff", "password": "x"}'),
    "nul": (JSON, b'{"username": "a\\u0000", "password": "x"}'),
    "half-a-surrogate": (JSON, b'{"username": "\\ud800", "password": "\\ud800"}'),
    "no-password": (JSON, b'{"username": "a"}'),
    "nothing": (JSON, b""),
    "names-twice": (("Content-Type", "application/x-www-form-urlencoded"), b"username=a&username=b&password=c"),
    "many-fields": (("Content-Type", "application/x-www-form-urlencoded"), b"a=b&" * 9000),
}
_LISTS = ("q=%00", "email=%00", "limit=0", "limit=201", "limit=x", "limit=1e9", "cursor=x", "cursor=%ff", "sort=",
          "sort=password", "state=X",
          "created_after=x", "created_after=2024-01-01", "who=me", "q=" + "a" * 201, "cursor=e30",
          "limit=99999999999999999999999")  # fmt: skip

STAFF_ROWS = [
    *(
        Row(72, f"header-{number}", with_headers(*values), {401}, NOBODY, says_how_to_sign_in)
        for number, values in enumerate(
            (
                (),
                ("",),
                ("Bearer",),
                ("Bearer ",),
                ("Basic YTpi",),
                ("Bearer null",),
                ("Token TOKEN",),
                ("BearerTOKEN",),
                ("Bearer TOKEN", "Bearer TOKEN"),
                ("Bearer TOKEN, Bearer TOKEN",),
                ("Bearer TOKEN x",),
                ("Bearer é",),
            )
        )
    ),
    Row(72, "token-in-query", lambda g: g.ask("GET", f"/leads?access_token={g.client.token}"), {401}, NOBODY),
    *(Row(73, name, with_token(token), {401}, NOBODY) for name, token in _FORGED.items()),
    Row(74, "staff-token-at-the-storage", staff_token_at_the_storage, {401}, NOBODY),
    Row(76, "disabled-and-changed", after_disabling, {401}, NOBODY, memory_mib=192),
    # argon2 takes 64 MiB a time, two at a time, on purpose
    Row(77, "unknown-or-wrong", unknown_and_wrong, {401}, NOBODY, all_alike, memory_mib=192),
    Row(77, "a-password-of-a-MiB", lambda g: sign_in(g, ADMIN, "x" * 1024 * 1024), {413}, {"body-too-large"}),
    Row(77, "a-password-of-10-KiB", lambda g: sign_in(g, ADMIN, "x" * 10240), {401}, NOBODY),
    *(
        Row(77, f"login-{name}", asked("POST", "/leads/login", kind, body=body), {422}, INVALID)
        for name, (kind, body) in _LOGINS.items()
    ),
    Row(77, "login-as-text", lambda g: g.ask("POST", "/leads/login", body=b"x"), {415}, {"unsupported-media-type"}),
    *(Row(80, f"list-{query:.20}", asked("GET", f"/leads?{query}"), {422}, INVALID) for query in _LISTS),
    *(
        Row(80, f"lead-{name:.20}", asked("GET", f"/leads/{name}"), {404}, {"not-found"})
        for name in ("x", "1", "%00", "00000000-0000-0000-0000-000000000000", "..%2fusers", "'--", "a" * 4000)
    ),
    Row(81, "twice-and-back", twice_and_back, {200, 409}, {"illegal-transition"}),
    *(
        Row(81, f"patch-as-{kind}", patched_as(kind), {415}, {"unsupported-media-type"})
        for kind in ("text/plain", "application/x-www-form-urlencoded", "text/json", "")
    ),
    Row(81, "two-staff-at-once", two_staff_at_once, {200, 412}, {"precondition-failed"}),
    *(
        Row(81, f"patch-{body!r:.24}", patched(body), {422, 400}, INVALID | {"malformed-request"})
        for body in (
            b'{"state": "HIRED"}',
            b'{"state": null}',
            b"{}",
            b'{"state": "REACHED_OUT", "email": "x@y.test"}',
            b"[]",
            b"",
            b"{",
            b"[" * 60_000,
            b'{"state": "\\ud800"}',
            b'{"state": ' + b"9" * 5000 + b"}",
            b"\xff",
        )
    ),
    Row(81, "patch-a-MiB", patched(b" " * 1024 * 1024), {413}, {"body-too-large"}),
    Row(81, "stale", patched(b'{"state": "REACHED_OUT"}', ("If-Match", '"99"')), {412}, {"precondition-failed"}),
    Row(81, "no-tag", patched(b'{"state": "REACHED_OUT"}', ("If-Match", "99")), {412}, {"precondition-failed"}),
]
