"""Downloads: resumes of 64 KiB and 5 MiB, signed in, beside the peers and beside a bare ASGI app's stream."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from bench import wrk
from bench.figures import Figure, Result, Table, at_least_share, number, ratio, spread
from bench.peers.bare import BareAsgi
from bench.peers.leads import Leads
from bench.peers.pocketbase import PocketBase
from bench.peers.protocol import StaffPeer
from bench.peers.takehome import Takehome
from bench.rounds import own_folder, rotated, say
from bench.size import Size
from tests.harness.files import pdf

PEERS: Sequence[Callable[[Path], StaffPeer]] = (Takehome, PocketBase, Leads)
MIB = 1024 * 1024
SIZES = {"64 KiB": 64 * 1024, "5 MiB": 5 * MIB}
BARE = "bare ASGI, from memory"
ABOUT = (
    "The same resume again and again by 32 connections of wrk, signed in at the three systems, rounds by turns. The"
    " bare ASGI app streams as many bytes from memory, 64 KiB at a time, and asks nobody who they are."
)

Loads = Mapping[str, Mapping[str, list[wrk.Load]]]
"""By size, then by system."""


async def measure(size: Size, folder: Path) -> Result:
    """Both sizes, side by side."""
    loads: dict[str, dict[str, list[wrk.Load]]] = {}
    with own_folder(folder, "downloads") as room:
        async with AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(peer(room / peer.__name__)) for peer in PEERS]
            bare = await stack.enter_async_context(BareAsgi(room / "bare"))
            for name, size_bytes in SIZES.items():
                loads[name] = await _side_by_side(peers, bare, size_bytes, size)
    return Result(ABOUT, tuple(_figures(loads)), tuple(_table(name, loads[name]) for name in SIZES))


async def _side_by_side(
    peers: Sequence[StaffPeer], bare: BareAsgi, size_bytes: int, size: Size
) -> dict[str, list[wrk.Load]]:
    resume = pdf(size_bytes)
    found_by = {peer.name: await peer.upload(resume) for peer in peers}
    loads: dict[str, list[wrk.Load]] = {name: [] for name in (*found_by, BARE)}

    async def load(name: str, url: str, headers: Mapping[str, str]) -> None:
        seen = await wrk.get(url, size.download_seconds, headers)
        if seen.refused or seen.broken:
            raise AssertionError(f"{name} refused {seen.refused} downloads and broke off {seen.broken}")
        loads[name].append(seen)
        say(f"downloads: {name}: {size_bytes:,} bytes, {number(seen.per_second)} req/s")

    for turn in range(size.rounds):
        for peer in rotated(peers, turn):
            headers = await peer.sign_in()
            url = await peer.resume_url(found_by[peer.name], headers)
            await _check_bytes(peer.name, url, headers, resume)
            await load(peer.name, url, headers)
        await load(BARE, f"{bare.intake_url}/{size_bytes}", {})
    return loads


async def _check_bytes(name: str, url: str, headers: Mapping[str, str], resume: bytes) -> None:
    """Nobody may be fast with other bytes, or with bytes for everybody."""
    async with aiohttp.ClientSession() as session:
        async with session.get(url, headers=headers) as answer:
            if await answer.read() != resume:
                raise AssertionError(f"{name} answered {answer.status} with other bytes than were sent to it")
        async with session.get(url.partition("?")[0]) as answer:
            if answer.status < 400:
                raise AssertionError(f"{name} gives resumes to whoever asks")


def _figures(loads: Loads) -> list[Figure]:
    small, large = loads["64 KiB"], loads["5 MiB"]
    return [
        at_least_share(
            "download of 64 KiB, authorised",
            _rate(small[Leads.name]),
            _rate(small[PocketBase.name]),
            of=PocketBase.name,
            share=0.7,
            unit="req/s",
        ),
        at_least_share(
            "download of 5 MiB, authorised",
            _rate(large[Leads.name]) * 5,
            _rate(large[BARE]) * 5,
            of=BARE,
            share=0.8,
            unit="MiB/s",
        ),
    ]


def _table(size_name: str, loads: Mapping[str, list[wrk.Load]]) -> Table:
    mib = SIZES[size_name] / MIB
    rows = tuple(
        (
            name,
            spread([load.per_second for load in of]),
            number(_rate(of) * mib),
            ratio(_rate(of), _rate(loads[PocketBase.name])),
            ratio(_rate(of), _rate(loads[BARE])),
            spread([load.p99_ms for load in of]),
        )
        for name, of in loads.items()
    )
    columns = ("system", "downloads/s", "MiB/s", "to PocketBase", "to bare ASGI", "p99 ms")
    return Table(f"Downloads of {size_name}", columns, rows)


def _rate(loads: Sequence[wrk.Load]) -> float:
    return statistics.median(load.per_second for load in loads)
