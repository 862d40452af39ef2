"""Workers: leads a second of one, two and four apis behind nginx, and what a lead costs each part of the system."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import kept, wrk
from bench.figures import Figure, Result, Table, number, reported, spread
from bench.peers.leads import LeadsOnPostgreSQL
from bench.peers.process import processor_seconds
from bench.peers.protocol import Kept
from bench.peers.sendgrid import ANSWER_SECONDS, Provider
from bench.rounds import own_folder, rotated, say
from bench.size import Size
from tests.harness import replicas
from tests.harness.inbox import mailbox_inbox
from tests.harness.nginx import Nginx
from tests.harness.replicas import replicated
from tests.harness.sizes import House

COUNTS = (1, 2, 4)
WARM_UP_SECONDS = 2
ABOUT = (
    "Apis on RabbitMQ and PostgreSQL behind one nginx, one storage and one notifier, all on the cores of this machine"
    f" and beside the load ({wrk.CONNECTIONS} connections, 64 KiB PDF by multipart, unique addresses). E-mails go to a"
    f" local stand-in for SendGrid that answers after {ANSWER_SECONDS * 1000:.0f} ms. What is to be seen is the price"
    " of a lead, from which docs/scaling.md reckons, not that more apis on the same cores take in more. Rows, files,"
    " events and e-mails were counted. Processor time is taken from the first lead to the last e-mail, over all"
    " processes of a part."
)


class LeadsByMany(LeadsOnPostgreSQL):
    """So many apis behind nginx, which count what one caller does in the database."""

    def __init__(self, folder: Path, apis: int, provider: Provider) -> None:
        super().__init__(folder, {**replicas.SETTINGS, **provider.settings})
        self._apis = apis
        self._provider = provider

    def parts(self, front: Nginx) -> Mapping[str, Sequence[int]]:
        """The first processes of each part of the system."""
        rooms = {"api": list[int](), "storage": [], "notifier": []}
        for name, process in self.deployment.processes.items():
            rooms[name.partition("-")[0]].append(process.pid)
        return {**rooms, "nginx": [front.pid], "PostgreSQL": [self.server.pid], "RabbitMQ": [self.node.pid]}

    async def settle(self, accepted: int) -> Kept:
        drained_seconds = await kept.wait_until_drained(self.deployment)
        leads = kept.check_nothing_is_missing(self.deployment, accepted, mails=self._provider.accepted)
        return Kept(leads, leads, drained_seconds)

    async def measure(self, seconds: int) -> "Round":
        """One round of load. Raises `Lost` when something that was accepted is missing."""
        house = House(self.deployment, mailbox_inbox(self.deployment.mailbox))  # which stays empty
        async with replicated(house, self._folder / "front", apis=self._apis, notifiers=1) as many:
            await self.settle((await wrk.post_leads(self.intake_url, WARM_UP_SECONDS)).accepted)
            before = _spent(self.parts(many.front))
            load = await wrk.post_leads(self.intake_url, seconds)
            await self.settle(load.accepted)
            after = _spent(self.parts(many.front))
        each = {part: (after[part] - before[part]) * 1000 / load.accepted for part in after}
        return Round(load, each)


@dataclass(frozen=True)
class Round:
    """What was taken in, and milliseconds of processor time a lead of each part."""

    load: wrk.Load
    cost_ms: Mapping[str, float]


async def measure(size: Size, folder: Path) -> Result:
    """In rounds by turns."""
    rounds: dict[int, list[Round]] = {count: [] for count in COUNTS}
    for turn in range(size.rounds):
        for count in rotated(COUNTS, turn):
            with own_folder(folder, "workers") as room:
                async with (
                    Provider(room / "provider") as provider,
                    LeadsByMany(room / "leads", count, provider) as leads,
                ):
                    rounds[count].append(await leads.measure(size.intake_seconds))
            say(f"workers: {count}: {number(rounds[count][-1].load.per_second)} leads/s")
    return Result(ABOUT, (_figure(rounds),), (_table(rounds),))


def _figure(rounds: Mapping[int, Sequence[Round]]) -> Figure:
    costs = [sum(one.cost_ms.values()) for one in rounds[1]]
    return reported("a lead with event and e-mails, all parts, one api", f"{spread(costs)} ms of processor time")


def _table(rounds: Mapping[int, Sequence[Round]]) -> Table:
    parts = tuple(rounds[1][0].cost_ms)
    rows = tuple(
        (
            str(count),
            spread([one.load.per_second for one in of]),
            number(statistics.median(one.load.p99_ms for one in of)),
            *(number(statistics.median(one.cost_ms[part] for one in of)) for part in parts),
        )
        for count, of in rounds.items()
    )
    return Table("Workers", ("apis", "leads/s", "p99 ms", *(f"{part}, ms a lead" for part in parts)), rows)


def _spent(parts: Mapping[str, Iterable[int]]) -> dict[str, float]:
    return {part: processor_seconds(pids) for part, pids in parts.items()}
