"""Bad inputs, section E: repetitions, and requests that come while something Leads needs is away, slow or full."""

import asyncio
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

from tests.harness import files
from tests.harness.bad_inputs import FORM_TYPE, RESUME, Ground, Row
from tests.harness.raw_http import RawAnswer, connection, form, head
from tests.harness.tiny_disk import filled

Send = Callable[[Ground], Awaitable[RawAnswer | list[RawAnswer]]]

AWAY = {"unavailable"}
ANSWERED_WITHIN_SECONDS = 5.5
"""What a caller may wait for a 503: 5 s, and a little for the clock."""

REPETITIONS = 20


async def asked_in_time(ground: Ground, size_bytes: int = 4096) -> RawAnswer:
    """A good lead while something is wrong: whatever the answer is, it comes soon."""
    began_at = time.monotonic()
    answer = await ground.post(ground.lead(resume=files.pdf(size_bytes)))
    assert time.monotonic() - began_at < ANSWERED_WITHIN_SECONDS
    return answer


async def refused_for_now(_: Ground, answers: Sequence[RawAnswer]) -> None:
    """The first was refused with a hint when to come back, and the last was kept: nothing had to be restarted."""
    assert answers[0].status == 503
    assert int(answers[0].headers["retry-after"]) > 0
    assert answers[-1].status == 201


async def repeated(ground: Ground) -> list[RawAnswer]:
    """One key, many at once, and once more after a restart."""
    body, key = form(ground.lead()), ("Idempotency-Key", "a-key-of-a-form")
    ground.expect_resume(RESUME)
    sends = [ground.post_body(body, key) for _ in range(REPETITIONS)]
    answers = list(await asyncio.gather(*sends))
    await ground.deployment.stop("api")
    await ground.deployment.restart("api")
    return [*answers, await ground.post_body(body, key)]


async def all_got_the_first_answer(_: Ground, answers: Sequence[RawAnswer]) -> None:
    assert len({one.body for one in answers}) == 1
    assert len({one.headers["location"] for one in answers}) == 1
    assert sum("idempotency-replayed" in one.headers for one in answers) == len(answers) - 1


async def another_form(ground: Ground) -> list[RawAnswer]:
    """The same key with another name, another file, another address."""
    key, parts = ("Idempotency-Key", "a-key-of-another-form"), ground.lead()
    first = await ground.post(parts, key)
    email = parts[2].content
    others = [ground.lead(email=email, **other) for other in ({"first_name": "Bob"}, {"resume": files.pdf(5000)})]
    others.append(ground.lead())
    return [first, *[await ground.post(other, key) for other in others]]


def with_keys(*keys: str) -> Send:
    return lambda ground: ground.post(ground.lead(), *(("Idempotency-Key", key) for key in keys))


async def storage_killed(ground: Ground) -> list[RawAnswer]:
    ground.deployment.kill("storage")
    refused = [await asked_in_time(ground), await asked_in_time(ground, 1024 * 1024)]
    await ground.deployment.restart("storage")
    return [*refused, await asked_in_time(ground)]


async def storage_asleep(ground: Ground) -> list[RawAnswer]:
    """It takes the connection and does not answer."""
    async with _asleep(ground, "storage"):
        refused = await asked_in_time(ground)
    return [refused, await asked_in_time(ground)]


async def storage_broken(ground: Ground) -> list[RawAnswer]:
    """It answers 500: its folder for what arrives is gone."""
    incoming = ground.deployment.resumes / ".incoming"
    await _emptied(incoming)
    incoming.rmdir()
    incoming.touch()
    try:
        refused = await asked_in_time(ground)
    finally:
        incoming.unlink()
        incoming.mkdir(mode=0o700)
    return [refused, await asked_in_time(ground)]


async def disk_of_resumes_full(ground: Ground) -> list[RawAnswer]:
    with filled(ground.deployment.resumes / ".incoming"):
        refused = [await asked_in_time(ground), await asked_in_time(ground, 1024 * 1024)]
    return [*refused, await asked_in_time(ground)]


async def disk_of_database_full(ground: Ground) -> list[RawAnswer]:
    """The log of the database finds no room: until then leads are kept, then they are refused."""
    answers = []
    with filled((ground.deployment.data / "leads.db").resolve().parent):
        for _ in range(200):
            answers.append(await asked_in_time(ground))
            if answers[-1].status == 503:
                break
    assert answers[-1].status == 503
    return [answers[-1], *answers[:-1], await asked_in_time(ground)]


async def bus_locked(ground: Ground) -> RawAnswer:
    with closing(sqlite3.connect(ground.deployment.data / "queue.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        answer = await asked_in_time(ground)
        await asyncio.sleep(1)
        other.execute("ROLLBACK")
    return answer


async def notifier_killed(ground: Ground) -> RawAnswer:
    ground.deployment.kill("notifier")
    answer = await asked_in_time(ground)
    await ground.deployment.restart("notifier")
    return answer


async def api_killed_half_way(ground: Ground) -> list[RawAnswer]:
    body = form(ground.lead(resume=files.pdf(1024 * 1024)))
    async with connection(ground.port) as (reader, writer):
        writer.write(head("POST", "/leads", [FORM_TYPE, ("Content-Length", str(len(body)))]) + body[:-1000])
        await writer.drain()
        await asyncio.sleep(0.2)
        ground.deployment.kill("api")
        assert await reader.read() == b""
    await ground.deployment.restart("api")
    return [RawAnswer(0), await asked_in_time(ground)]


async def api_killed_after_the_answer(ground: Ground) -> RawAnswer:
    answer = await asked_in_time(ground)
    ground.deployment.kill("api")
    await ground.deployment.restart("api")
    return answer


@asynccontextmanager
async def _asleep(ground: Ground, room: str) -> AsyncIterator[None]:
    process = ground.deployment.processes[room]
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


async def _emptied(folder: Path) -> None:
    while list(folder.iterdir()):
        await asyncio.sleep(0.01)


_KEY = {"invalid-fields"}

REPEATED_ROWS = [
    Row(64, "same-key-same-form", repeated, {201}, (), all_got_the_first_answer, troubled=True),
    Row(65, "same-key-another-form", another_form, {201, 422}, {"idempotency-key-reused"}),
    *(
        Row(65, f"keys-{number}", with_keys(*keys), {422}, _KEY)
        for number, keys in enumerate((("",), ("a" * 256,), ("a b",), ("é",), ("a", "b"), ("a", "a"), ("\t",)))
    ),
]
FAILURE_ROWS = [
    Row(67, "storage-killed", storage_killed, {503, 201}, AWAY, refused_for_now, troubled=True),
    Row(67, "storage-asleep", storage_asleep, {503, 201}, AWAY, refused_for_now, troubled=True),
    Row(67, "storage-broken", storage_broken, {503, 201}, AWAY, refused_for_now, troubled=True),
    Row(69, "bus-locked", bus_locked, {201}, troubled=True),
    Row(69, "notifier-killed", notifier_killed, {201}, troubled=True),
    Row(71, "api-killed-half-way", api_killed_half_way, {0, 201}, troubled=True),
    Row(71, "api-killed-after-the-answer", api_killed_after_the_answer, {201}, troubled=True),
]
FULL_DISK_ROWS = [
    Row(68, name, send, {503, 201}, AWAY, refused_for_now, troubled=True, on_tiny_disk=True, within_seconds=60)
    for name, send in {"resumes": disk_of_resumes_full, "database": disk_of_database_full}.items()
]
