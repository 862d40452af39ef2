"""Intake: how many leads a second each system takes, in rounds by turns; and that nothing it accepted is missing.

Load: wrk, 32 connections, one 64 KiB PDF and one address a request that nobody else has. Each round is a fresh
deployment in an empty folder. At Leads event and e-mails flow at the same time; what is left over is drained, and the
drain is timed.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import wrk
from bench.figures import Figure, Result, Table, at_least_share, at_most_share, number, ratio, reported, spread
from bench.floors.part import per_second
from bench.peers.bare import BareAsgi
from bench.peers.leads import Leads, LeadsOnPostgreSQL, LeadsOnRabbitMQ
from bench.peers.pocketbase import PocketBase
from bench.peers.protocol import Kept, Peer
from bench.peers.takehome import Takehome
from bench.rounds import own_folder, rotated, say
from bench.size import Size

PEERS: Sequence[Callable[[Path], Peer]] = (Takehome, PocketBase, Leads, LeadsOnRabbitMQ, LeadsOnPostgreSQL, BareAsgi)
SCRIPT = "bare script, no server"
WARM_UP_SECONDS = 1
ABOUT = (
    "64 KiB PDF by multipart, unique addresses, 32 connections of wrk; median of the rounds, lowest and highest in"
    " brackets. Every round's rows and files were counted; at Leads each also has its event and both e-mails, which may"
    " drain afterwards. Leads and the bare script keep files and rows with fsync; PocketBase and the take-home do not"
    " fsync files. The bare script parses the same body, keeps the same file and group-commits the same row, without"
    " HTTP. Memory is that of all processes of a system but RabbitMQ's and PostgreSQL's, right after the load."
)


@dataclass(frozen=True)
class Round:
    """One system, once."""

    load: wrk.Load
    kept: Kept
    resident_mib: float


async def measure(size: Size, folder: Path) -> Result:
    """All systems, in rounds by turns. Raises `Lost` when something that was accepted is missing."""
    rounds: dict[str, list[Round]] = {}
    script: list[float] = []
    for turn in range(size.rounds):
        for peer in rotated(PEERS, turn):
            name, seen = await _round(peer, size, folder)
            rounds.setdefault(name, []).append(seen)
        script.append(await per_second("script", size.intake_seconds))
        say(f"intake: {SCRIPT}: {number(script[-1])} leads/s")
    return Result(ABOUT, tuple(_figures(rounds, script)), (_table(rounds, script),))


async def _round(peer: Callable[[Path], Peer], size: Size, folder: Path) -> tuple[str, Round]:
    with own_folder(folder, "round") as room:
        async with peer(room) as running:
            warm = await wrk.post_leads(running.intake_url, WARM_UP_SECONDS)
            load = await wrk.post_leads(running.intake_url, size.intake_seconds)
            resident_mib = running.resident_mib()
            kept = await running.settle(warm.accepted + load.accepted)
    say(f"intake: {running.name}: {number(load.per_second)} leads/s, {kept}")
    return running.name, Round(load, kept, resident_mib)


def _figures(rounds: Mapping[str, Sequence[Round]], script: Sequence[float]) -> list[Figure]:
    rates = {name: statistics.median(one.load.per_second for one in of) for name, of in rounds.items()}
    p99s = {name: statistics.median(one.load.p99_ms for one in of) for name, of in rounds.items()}
    ours, theirs = Leads.name, PocketBase.name
    rate = f"intake, {ours}"
    drained = ", ".join(
        f"{name} {number(max(one.kept.drained_seconds or 0.0 for one in rounds[name]))} s"
        for name in (ours, LeadsOnRabbitMQ.name, LeadsOnPostgreSQL.name)
    )
    return [
        at_least_share(rate, rates[ours], rates[theirs], of=theirs, share=1.0, unit="leads/s"),
        at_most_share(f"{rate}, p99", p99s[ours], p99s[theirs], of=theirs, share=1.0, unit="ms"),
        at_least_share(rate, rates[ours], rates[Takehome.name], of=Takehome.name, share=4.0, unit="leads/s"),
        at_least_share(rate, rates[ours], statistics.median(script), of=SCRIPT, share=0.5, unit="leads/s"),
        reported("intake, longest drain of events and e-mails after a round", drained),
    ]


def _table(rounds: Mapping[str, Sequence[Round]], script: Sequence[float]) -> Table:
    pocketbase = statistics.median(one.load.per_second for one in rounds[PocketBase.name])
    lines = [_row(name, of, pocketbase) for name, of in rounds.items()]
    share = ratio(statistics.median(script), pocketbase)
    lines.append((SCRIPT, spread(script), share, "", "", "", "", "rows and files counted"))
    columns = ("system", "leads/s", "to PocketBase", "p50 ms", "p99 ms", "failed", "memory MiB", "found afterwards")
    return Table("Intake, side by side", columns, tuple(lines))


def _row(name: str, rounds: Sequence[Round], pocketbase: float) -> tuple[str, ...]:
    rates = [one.load.per_second for one in rounds]
    drains = [one.kept.drained_seconds for one in rounds if one.kept.drained_seconds is not None]
    found = str(rounds[-1].kept) if rounds[-1].kept.leads else "keeps nothing"
    if drains:
        found += f", events and e-mails; drained in {spread(drains)} s"
    return (
        name,
        spread(rates),
        ratio(statistics.median(rates), pocketbase),
        spread([one.load.p50_ms for one in rounds]),
        spread([one.load.p99_ms for one in rounds]),
        str(sum(one.load.refused + one.load.broken for one in rounds)),
        spread([one.resident_mib for one in rounds]),
        found,
    )
