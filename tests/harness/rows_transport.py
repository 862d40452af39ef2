"""Bad inputs, section A: framing, sizes and shapes of requests, before anybody asks what they say."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.harness import files
from tests.harness.bad_inputs import FORM_TYPE, QUICK_SECONDS, RESUME, Ground, Row
from tests.harness.raw_http import BOUNDARY, Part, RawAnswer, chunk, connection, form, head, send_then_read

MIB = 1024 * 1024
TOO_LARGE = "body-too-large"
CHUNKED = ("Transfer-Encoding", "chunked")
LAST_CHUNK = b"0\r\n\r\n"

Send = Callable[[Ground], Awaitable[RawAnswer]]


async def endless(first: bytes = b"", piece: bytes = bytes(65536)) -> AsyncIterator[bytes]:
    """A chunked body that does not end."""
    if first:
        yield chunk(first)
    while True:
        yield chunk(piece)


def framed(*headers: tuple[str, str], chunked: bool = True) -> Send:
    """A good form under odd framing headers."""

    async def send(ground: Ground) -> RawAnswer:
        body = form(ground.lead())
        named = [(name, value.replace("LENGTH", str(len(body)))) for name, value in headers]
        return await ground.raw(
            head("POST", "/leads", [FORM_TYPE, *named]), chunk(body) + LAST_CHUNK if chunked else body
        )

    return send


def posted(body: bytes | Callable[[Ground], bytes], *headers: tuple[str, str], blindly: bool = False) -> Send:
    """A body as it is, under a right length. `blindly`: all is sent before the answer is looked at."""

    async def send(ground: Ground) -> RawAnswer:
        content = body if isinstance(body, bytes) else body(ground)
        named = headers if any(name == "Content-Type" for name, _ in headers) else (FORM_TYPE, *headers)
        start = head("POST", "/leads", [*named, ("Content-Length", str(len(content)))])
        if blindly:
            return await send_then_read(ground.port, start + content)
        return await ground.raw(start, content)

    return send


def with_headers(*headers: tuple[str, str]) -> Send:
    """A GET with these headers."""
    return lambda ground: ground.raw(head("GET", "/leads", headers))


async def huge(ground: Ground) -> RawAnswer:
    """Says 1 GiB, and begins to send it."""
    return await ground.raw(head("POST", "/leads", [FORM_TYPE, ("Content-Length", str(1024 * MIB))]), bytes(8 * MIB))


async def huge_blindly(ground: Ground) -> RawAnswer:
    start = head("POST", "/leads", [FORM_TYPE, ("Content-Length", str(1024 * MIB))])
    return await send_then_read(ground.port, start + bytes(12 * MIB))


async def endless_resume(ground: Ground) -> RawAnswer:
    beginning = form(ground.lead(resume=files.pdf(65536)))[: -len(BOUNDARY) - 8]
    return await ground.raw(head("POST", "/leads", [FORM_TYPE, CHUNKED]), endless(beginning))


async def endless_nothing(ground: Ground) -> RawAnswer:
    return await ground.raw(head("POST", "/leads", [FORM_TYPE, CHUNKED]), endless())


async def too_short_a_length(ground: Ground) -> RawAnswer:
    body = form(ground.lead())
    start = head("POST", "/leads", [FORM_TYPE, ("Content-Length", str(len(body) - 40))])
    answer = await ground.raw(start, body, to_end=True)
    assert not answer.rest.startswith(b"HTTP/1.1 2")
    return answer


async def too_long_a_length(ground: Ground) -> RawAnswer:
    body = form(ground.lead())
    start = head("POST", "/leads", [FORM_TYPE, ("Content-Length", str(len(body) + 40))])
    return await ground.raw(start, body, half_close=True)


async def garbage_behind_a_good_lead(ground: Ground) -> RawAnswer:
    """The lead is kept, so it must be answered so, and not with what is wrong about the bytes behind it."""
    body = form(ground.lead())
    ground.expect_resume(RESUME)
    start = head("POST", "/leads", [FORM_TYPE, ("Content-Length", str(len(body)))])
    return await ground.raw(start, body + b"\x00garbage\r\n\r\n", to_end=True)


async def a_broken_request_behind_a_good_lead(ground: Ground) -> RawAnswer:
    """Likewise, when its headers are good, and in one packet with the lead."""
    body = form(ground.lead())
    ground.expect_resume(RESUME)
    start = head("POST", "/leads", [FORM_TYPE, ("Content-Length", str(len(body)))])
    broken = head("POST", "/leads/login", [("Content-Type", "application/json"), CHUNKED])
    return await ground.raw(start + body + broken + b"no chunk\r\n", to_end=True)


def leaves_at(fraction: float) -> Send:
    """A client that goes away after that part of its body."""

    async def send(ground: Ground) -> RawAnswer:
        body = form(ground.lead(resume=files.pdf(MIB)))
        async with connection(ground.port) as (_, writer):
            writer.write(head("POST", "/leads", [FORM_TYPE, ("Content-Length", str(len(body)))]))
            writer.write(body[: int(len(body) * fraction)])
            await writer.drain()
            await asyncio.sleep(0.1)
            writer.transport.abort()
        return RawAnswer(0)

    return send


def trailing(*pieces: bytes) -> Send:
    """A chunked sign-in with something endless where a body should end."""

    async def lines() -> AsyncIterator[bytes]:
        yield pieces[0]
        for _ in range(800):
            yield pieces[1]

    async def send(ground: Ground) -> RawAnswer:
        start = head("POST", "/leads/login", [("Content-Type", "application/json"), CHUNKED])
        return await ground.raw(start, lines())

    return send


def many_parts(name: str) -> bytes:
    return form([Part(name, b"")] * 10_000)


async def long_field(ground: Ground) -> RawAnswer:
    return await ground.post(ground.lead(first_name=b"x" * (4 * MIB)))


async def upgrading(ground: Ground) -> RawAnswer:
    """As Java's HttpClient sends its first request: an offer to go on in HTTP/2, which is to be declined."""
    offer = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAEAAEAA")]
    return await ground.post(ground.lead(), *offer)


_MALFORMED, _MULTIPART, _MEDIA, _HEADERS = (
    "malformed-request",
    "malformed-multipart",
    "unsupported-media-type",
    "headers-too-large",
)
_LENGTH = ("Content-Length", "LENGTH")
_URLENCODED = ("Content-Type", "application/x-www-form-urlencoded")
_FIELDS = b"a=b&" * 1_000_000
_BARE = b"--" + BOUNDARY.encode() + b'\r\nContent-Disposition: form-data; name="email"\r\nX: ' + b"a" * (4 * MIB)


def before_the_form(ground: Ground) -> bytes:
    return b"\r\n" * (MIB // 2) + form(ground.lead())


def behind_the_form(ground: Ground) -> bytes:
    return form(ground.lead()) + b"-" * MIB


FRAMING = [
    Row(1, "length-1-GiB", huge, {413}, {TOO_LARGE}, within_seconds=QUICK_SECONDS),
    Row(1, "length-1-GiB-sent-blindly", huge_blindly, {413}, {TOO_LARGE}),
    Row(2, "chunked-without-end", endless_resume, {413}, {TOO_LARGE}),
    Row(2, "chunked-without-a-form", endless_nothing, {400, 413}, {_MULTIPART, TOO_LARGE}),
    Row(4, "length-too-short", too_short_a_length, {400, 0}, {_MULTIPART, _MALFORMED}),
    Row(4, "length-too-long", too_long_a_length, {400, 0}, {_MULTIPART}),
    Row(4, "garbage-behind-a-good-lead", garbage_behind_a_good_lead, {201}),
    Row(4, "a-broken-request-behind-a-good-lead", a_broken_request_behind_a_good_lead, {201}),
    *(
        Row(6, f"length-and-{name}", framed(_LENGTH, ("Transfer-Encoding", value)), {400}, {_MALFORMED})
        for name, value in {
            "chunked": "chunked",
            "tab-chunked": "\tchunked",
            "xchunked": "xchunked",
            "identity": "identity",
            "gzip-chunked": "gzip, chunked",
            "capital-Chunked": "Chunked",
        }.items()
    ),
    *(
        Row(6, f"coding-{value}", framed(("Transfer-Encoding", value)), {400}, {_MALFORMED})
        for value in ("xchunked", "gzip, chunked", "chunked, identity", "identity", "chunked\x0b", "chunked, chunked")
    ),
    *(
        Row(6, f"length-{value!r}", framed(("Content-Length", value), chunked=False), {400}, {_MALFORMED})
        for value in ("+9", "-1", "0x10", "5, 5", "5 5", "9" * 24, "", "1_0")
    ),
    Row(6, "two-lengths", framed(_LENGTH, _LENGTH, chunked=False), {400}, {_MALFORMED}),
    Row(6, "coding-twice", framed(CHUNKED, CHUNKED), {400}, {_MALFORMED}),
    Row(6, "a-space-before-the-colon", framed(("Content-Length ", "LENGTH"), chunked=False), {400}, {_MALFORMED}),
    Row(6, "trailers-without-end", trailing(b"0\r\n", b"X-Trailer: " + b"a" * 65000 + b"\r\n"), {431}, {_HEADERS}),
    Row(6, "one-trailer-without-end", trailing(b"0\r\nX: ", b"a" * 65000), {431}, {_HEADERS}),
    Row(6, "a-chunk-extension-without-end", trailing(b"1;x=", b"a" * 65000), {431}, {_HEADERS}),
    Row(6, "an-offer-of-http2-is-declined", upgrading, {201}),
    *(Row(9, f"leaves-at-{part:.0%}", leaves_at(part), {0}) for part in (0.0, 0.002, 0.5, 0.99)),
    Row(10, "a-header-of-100-KiB", with_headers(("X-Long", "a" * 100 * 1024)), {431, 400}, {_HEADERS}),
    Row(10, "a-header-of-20-KiB", with_headers(("X-Long", "a" * 20 * 1024)), {431}, {_HEADERS}),
    Row(10, "2000-headers", with_headers(*((f"X-{n}", "a") for n in range(2000))), {431, 400}, {_HEADERS}),
    Row(10, "an-address-of-20-KiB", lambda g: g.ask("GET", "/leads?q=" + "a" * 20480), {431, 414}, {_HEADERS}),
    Row(11, "10000-unknown-parts", posted(many_parts("a")), {400, 413}, {_MULTIPART}, within_seconds=QUICK_SECONDS),
    Row(11, "10000-names", posted(many_parts("email")), {400, 413}, {_MULTIPART}, within_seconds=QUICK_SECONDS),
    Row(12, "a-field-of-4-MiB", long_field, {413, 422}, {"invalid-fields"}, within_seconds=QUICK_SECONDS),
    Row(12, "a-field-of-4-MiB-blindly", posted(form([Part("email", bytes(4 * MIB))]), blindly=True), {413, 422},
        {"invalid-fields"}),
    Row(13, "urlencoded-million", posted(_FIELDS, _URLENCODED), {415}, {_MEDIA}, within_seconds=QUICK_SECONDS),
    Row(13, "urlencoded-million-blindly", posted(_FIELDS, _URLENCODED, blindly=True), {415}, {_MEDIA}),
    Row(13, "urlencoded-semicolons", posted(b";" * MIB, _URLENCODED), {415}, {_MEDIA}, within_seconds=QUICK_SECONDS),
    Row(14, "a-MiB-before", posted(before_the_form), {400}, {_MULTIPART}, within_seconds=QUICK_SECONDS),
    Row(14, "a-MiB-behind", posted(behind_the_form), {400}, {_MULTIPART}, within_seconds=QUICK_SECONDS),
    Row(15, "10000-part-headers", posted(form([Part("email", b"", headers=[b"X: y"] * 10_000)])), {400}, {_MULTIPART},
        within_seconds=QUICK_SECONDS),
    Row(15, "a-part-header-of-4-MiB", posted(_BARE), {400}, {_MULTIPART}, within_seconds=QUICK_SECONDS),
    *(
        Row(19, f"content-encoding-{coding}", posted(b"\x1f\x8b\x08" + bytes(MIB), ("Content-Encoding", coding)), {415},
            {_MEDIA})
        for coding in ("gzip", "GZIP", "br", "identity, gzip")
    ),
    Row(19, "two-encodings", posted(b"x", *(("Content-Encoding", c) for c in ("identity", "gzip"))), {415}, {_MEDIA}),
    *(
        Row(20, f"type-{kind!r}", posted(b'{"email": "a@b.test"}', ("Content-Type", kind)), {415}, {_MEDIA})
        for kind in ("application/json", "text/plain", "multipart/mixed; boundary=x", "", "*/*", "multipart/form-data2")
    ),
    Row(20, "no-type", lambda g: g.ask("POST", "/leads", body=b"x"), {415}, {_MEDIA}),
    Row(20, "two-types", posted(b"x", ("Content-Type", "text/plain"), FORM_TYPE), {400, 415}, {_MALFORMED, _MEDIA}),
    *(
        Row(20, f"boundary-{boundary!r:.20}", posted(b"x", ("Content-Type", f"multipart/form-data{boundary}")), {400},
            {_MULTIPART})
        for boundary in ("", *(f"; boundary={name}" for name in ("", '""', "a" * 300, "a\tb", '"a ')))
    ),
]  # fmt: skip
