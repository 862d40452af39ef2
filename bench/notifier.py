"""Notifier: e-mails a second that one process hands to the provider, from a full queue; none twice, none missing."""

import asyncio
import statistics
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from bench.events import events, messages
from bench.figures import Result, Table, at_least, at_most, number, spread
from bench.peers.leads import broker
from bench.peers.protocol import Lost
from bench.peers.sendgrid import ANSWER_SECONDS, LIMIT_PER_SECOND, Provider, Requests
from bench.rounds import own_folder, say
from bench.size import Size
from services.cli.pinning import processors
from shared.bus import bus_for
from shared.topology import leads_topology
from tests.harness.deployment import Deployment

AT_ONCE = 500
STALLED_SECONDS = 60.0
TARGET_PER_SECOND = 1_000
BUSES = ("embedded bus", "RabbitMQ")
ABOUT = (
    f"A queue of {{leads:,}} events, two e-mails each, and a notifier with its default settings, which finds it at its"
    f" start. The provider is a local stand-in that checks each request as SendGrid does, answers after"
    f" {ANSWER_SECONDS * 1000:.0f} ms and refuses more than {LIMIT_PER_SECOND:,} requests a second. Counted from the"
    " first e-mail that it accepted to the last; every lead got both, once."
)


async def measure(size: Size, folder: Path) -> Result:
    """On both buses by turns."""
    rates: dict[str, list[float]] = {bus: [] for bus in BUSES}
    over = busiest = 0
    for _ in range(size.rounds):
        for bus, seen in rates.items():
            rate, requests = await _round(bus, size.mailed_leads, folder)
            seen.append(rate)
            over += requests.over_the_limit
            busiest = max(busiest, requests.busiest_second)
            say(f"notifier: {bus}: {number(rate)} mails/s")
    figures = [
        at_least(f"notifier, {bus}, e-mails from one process", statistics.median(seen), TARGET_PER_SECOND, "mails/s")
        for bus, seen in rates.items()
    ]
    limit = at_most("notifier, requests over the provider's limit", over, 0, "requests")
    table = Table("Notifier", ("bus", "mails/s"), tuple((bus, spread(seen)) for bus, seen in rates.items()))
    busy = Table("Requests", ("busiest second", "over the limit"), ((f"{busiest:,}", str(over)),))
    return Result(ABOUT.format(leads=size.mailed_leads), (*figures, limit), (table, busy))


async def _round(bus: str, leads: int, folder: Path) -> tuple[float, Requests]:
    with own_folder(folder, "notifier") as room:
        async with AsyncExitStack() as stack:
            provider = await stack.enter_async_context(Provider(room / "provider"))
            settings = dict(provider.settings)
            if bus == "RabbitMQ":
                node = await stack.enter_async_context(broker(room / "rabbitmq"))
                settings["LEADS_BROKER_URL"] = node.url()
            deployment = Deployment(room, settings, processors("auto"))
            stack.callback(deployment.end)
            await _fill(deployment, settings, leads)
            deployment.launch("notifier")
            deployment.settle()
            await _sent(deployment, provider, 2 * leads)
            await deployment.stop("notifier")
            requests = provider.stop()
            return mails_per_second([mail.at for mail in provider.mails()]), requests


def mails_per_second(at: list[float]) -> float:
    """Of the moments in seconds at which e-mails were accepted: the first is where counting begins."""
    return (len(at) - 1) / (max(at) - min(at))


async def _fill(deployment: Deployment, settings: Mapping[str, str], leads: int) -> None:
    deployment.data.mkdir(parents=True)
    url = settings.get("LEADS_BROKER_URL", f"sqlite:///{deployment.data / 'queue.db'}")
    made = messages(events(leads))
    async with bus_for(url, leads_topology(), client_name="bench") as bus:
        for begin in range(0, leads, AT_ONCE):
            await bus.publish(made[begin : begin + AT_ONCE])


async def _sent(deployment: Deployment, provider: Provider, wanted: int) -> None:
    """Wait until so many e-mails were accepted. Raises `Lost` when no more come."""
    sent, moved_at = -1, time.monotonic()
    while sent < wanted:
        before, sent = sent, provider.accepted()
        if sent != before:
            moved_at = time.monotonic()
        elif time.monotonic() > moved_at + STALLED_SECONDS:
            raise Lost(f"{sent:,} of {wanted:,} e-mails: {deployment.log_file('notifier').read_text()[-2000:]}")
        await asyncio.sleep(0.1)
