"""Latency: from the accepted lead to the e-mail that the provider accepted, at a fixed rate (open model)."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bench import kept
from bench.figures import Result, Table, at_most, number, percentile, reported
from bench.open_model import due
from bench.peers.protocol import Lost
from bench.peers.sendgrid import ANSWER_SECONDS, Mail, Provider
from bench.rounds import own_folder, say
from bench.size import Size
from bench.wrk import RESUME_BYTES
from services.cli.pinning import processors
from tests.chaos.storm import NO_ANSWER
from tests.harness.client import Client
from tests.harness.deployment import Deployment, deployed
from tests.harness.files import pdf

P50_MS = 50
P99_MS = 250
ABOUT = (
    "{rate} leads/s of 64 KiB for {seconds} s with the embedded defaults, sent when they are due whether or not the"
    f" others were answered. The provider answers after {ANSWER_SECONDS * 1000:.0f} ms, which is part of the figure."
    " A lead's time of acceptance is its `created_at`; that it was due earlier is in the other lines."
)


@dataclass(frozen=True)
class Sent:
    """One lead that was accepted; all moments are Unix time in seconds."""

    lead_id: str
    due_at: float
    created_at: float
    answered_at: float


async def measure(size: Size, folder: Path) -> Result:
    """One run."""
    with own_folder(folder, "latency") as room:
        async with (
            Provider(room / "provider") as provider,
            deployed(room, provider.settings, processors("auto")) as leads,
        ):
            sent, errors = await _send(leads, size.latency_rate, size.latency_seconds)
            say(f"latency: {len(sent):,} leads were accepted")
            await kept.wait_until_drained(leads)
            kept.check_nothing_is_missing(leads, len(sent), mails=provider.accepted)
            mails = provider.mails()
    accepted, whole = spans_ms(sent, mails)
    answers = [(one.answered_at - one.due_at) * 1000 for one in sent]
    what = f"accepted to mail accepted, {size.latency_rate} leads/s for {size.latency_seconds} s"
    unanswered = ", ".join(f"{many} × {error}" for error, many in errors.items()) or "none"
    figures = (
        at_most(f"{what}, p50", percentile(accepted, 0.5), P50_MS, "ms"),
        at_most(f"{what}, p99", percentile(accepted, 0.99), P99_MS, "ms"),
        reported("due to answered 201, p50 and p99", _two(answers)),
        reported("due to mail accepted, p50 and p99", _two(whole)),
        reported(f"not answered 201, of {len(sent) + errors.total():,} leads", unanswered),
    )
    spans = {"accepted to mail accepted": accepted, "due to answered 201": answers, "due to mail accepted": whole}
    columns = ("span", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "longest ms")
    rows = tuple(
        (name, *(number(percentile(of, share)) for share in (0.5, 0.9, 0.99, 0.999, 1.0))) for name, of in spans.items()
    )
    about = ABOUT.format(rate=size.latency_rate, seconds=size.latency_seconds)
    return Result(about, figures, (Table("Latency", columns, rows),))


def spans_ms(sent: Sequence[Sent], mails: Sequence[Mail]) -> tuple[list[float], list[float]]:
    """Milliseconds of each e-mail from its lead's acceptance, and from when that lead was due. Raises `Lost`."""
    by_id = {one.lead_id: one for one in sent}
    ours = [(by_id[mail.lead_id], mail.at) for mail in mails if mail.lead_id in by_id]
    if len(ours) != 2 * len(sent):
        raise Lost(f"{len(sent):,} leads were accepted, {len(ours):,} of their e-mails came")
    accepted = [(at - one.created_at) * 1000 for one, at in ours]
    return accepted, [(at - one.due_at) * 1000 for one, at in ours]


async def _send(deployment: Deployment, rate: int, seconds: int) -> tuple[list[Sent], Counter[str]]:
    """What was accepted, and how often something else was said or nothing at all."""
    run, sent, errors = uuid.uuid4().hex[:8], [], Counter[str]()
    clock = time.time() - time.monotonic()

    async def post(number: int, due_at: float) -> None:
        try:
            answer = await client.post_lead(f"latency-{run}-{number}@bench.example", pdf(RESUME_BYTES, seed=number))
        except NO_ANSWER as error:
            errors[type(error).__name__] += 1
            return
        if answer.status == 201:
            created_at = datetime.fromisoformat(answer.json["created_at"]).timestamp()
            sent.append(Sent(answer.json["id"], due_at + clock, created_at, time.time()))
        else:
            errors[str(answer.status)] += 1

    async with Client(deployment.api_url) as client, asyncio.TaskGroup() as sending:
        async for number, due_at in due(rate * seconds, rate):
            sending.create_task(post(number, due_at))
    return sent, errors


def _two(spans: Sequence[float]) -> str:
    return f"{number(percentile(spans, 0.5))} ms, {number(percentile(spans, 0.99))} ms"
