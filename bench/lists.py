"""Lists: 50 leads of one state, signed in, at equal sizes; and whether a page grows slower with the table.

Rows are put straight into each database. The peers are asked for the first page by 32 connections of wrk, by turns; how
long one page takes at other sizes is measured at Leads by following the cursor, one page at a time.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from bench import wrk
from bench.figures import (
    Figure,
    Result,
    Table,
    at_least_share,
    at_most_share,
    number,
    percentile,
    ratio,
    spread,
)
from bench.peers.leads import Leads
from bench.peers.pocketbase import PocketBase
from bench.peers.protocol import StaffPeer
from bench.peers.takehome import Takehome
from bench.rounds import own_folder, rotated, say
from bench.size import Size

PEERS: Sequence[Callable[[Path], StaffPeer]] = (Takehome, PocketBase, Leads)
PAGE = 50
WARM_UP_PAGES = 20
ABOUT = (
    "The newest 50 pending leads, signed in, four in five of the rows pending; PocketBase without its total. Rows were"
    " put straight into each database, which has an index on state and time at all three. Side by side: 32 connections"
    " of wrk, rounds by turns. By size: Leads alone, one page after the other along the cursor."
)


async def measure(size: Size, folder: Path) -> Result:
    """The peers side by side at one size, then Leads at the others."""
    with own_folder(folder, "lists") as room:
        async with AsyncExitStack() as stack:
            peers = [await stack.enter_async_context(peer(room / peer.__name__)) for peer in PEERS]
            leads = next(peer for peer in peers if isinstance(peer, Leads))
            p99s_ms: dict[int, float] = {}
            loads: dict[str, list[wrk.Load]] = {}
            for total in size.list_sizes:
                await asyncio.to_thread(leads.fill, total)
                p99s_ms[total] = percentile(await page_latencies_ms(leads, size.pages), 0.99)
                say(f"lists: Leads, {total:,} leads: page p99 {number(p99s_ms[total])} ms")
                if total == size.compared_leads:
                    loads = await _side_by_side(peers, size)
    figures = [*_compared(loads, size), *_grown(p99s_ms)]
    return Result(ABOUT, tuple(figures), (_table(loads, size), _size_table(p99s_ms)))


async def page_latencies_ms(leads: Leads, pages: int) -> list[float]:
    """Milliseconds of each page; pages follow the cursor, and start anew where they end."""
    spans, headers, url = [], await leads.sign_in(), leads.list_url
    async with aiohttp.ClientSession(headers=headers) as session:
        for turn in range(-WARM_UP_PAGES, pages):
            started = time.perf_counter()
            async with session.get(url) as answer:
                page = await answer.json()
            took_ms = (time.perf_counter() - started) * 1000
            if answer.status != 200 or not page["items"]:
                raise AssertionError(f"the list was answered {answer.status}: {page}")
            if turn >= 0:
                spans.append(took_ms)
            cursor = page["next_cursor"]
            url = f"{leads.list_url}&cursor={cursor}" if cursor else leads.list_url
    return spans


async def _side_by_side(peers: Sequence[StaffPeer], size: Size) -> dict[str, list[wrk.Load]]:
    loads: dict[str, list[wrk.Load]] = {peer.name: [] for peer in peers}
    for peer in peers:
        await asyncio.to_thread(peer.fill, size.compared_leads)
        await _check_page(peer)
    for turn in range(size.rounds):
        for peer in rotated(peers, turn):
            load = await wrk.get(peer.list_url, size.list_seconds, await peer.sign_in())
            if load.refused or load.broken:
                raise AssertionError(f"{peer.name} refused {load.refused} lists and broke off {load.broken}")
            loads[peer.name].append(load)
            say(f"lists: {peer.name}: {number(load.per_second)} req/s")
    return loads


async def _check_page(peer: StaffPeer) -> None:
    """Nobody may be fast with another answer than the others'."""
    async with aiohttp.ClientSession(headers=await peer.sign_in()) as session, session.get(peer.list_url) as answer:
        page = await answer.json()
    leads = page if isinstance(page, list) else page["items"]
    if len(leads) != PAGE or {lead["state"] for lead in leads} != {"PENDING"}:
        raise AssertionError(f"{peer.name} answered another list: {answer.status} {page}")


def _compared(loads: dict[str, list[wrk.Load]], size: Size) -> list[Figure]:
    rates = {name: statistics.median(load.per_second for load in of) for name, of in loads.items()}
    what = f"list of 50, authorised, {size.compared_leads:,} leads"
    ours, theirs = rates[Leads.name], rates[PocketBase.name]
    return [at_least_share(what, ours, theirs, of=f"{PocketBase.name} without its total", share=1.0, unit="req/s")]


def _grown(p99s_ms: dict[int, float]) -> list[Figure]:
    first, last = min(p99s_ms), max(p99s_ms)
    what = f"page p99, from {first:,} to {last:,} leads"
    return [at_most_share(what, p99s_ms[last], p99s_ms[first], of="the smaller", share=1.5, unit="ms")]


def _table(loads: dict[str, list[wrk.Load]], size: Size) -> Table:
    pocketbase = statistics.median(load.per_second for load in loads[PocketBase.name])
    rows = tuple(
        (
            name,
            spread([load.per_second for load in of]),
            ratio(statistics.median(load.per_second for load in of), pocketbase),
            spread([load.p50_ms for load in of]),
            spread([load.p99_ms for load in of]),
        )
        for name, of in loads.items()
    )
    columns = ("system", "lists/s", "to PocketBase", "p50 ms", "p99 ms")
    return Table(f"List of 50 of {size.compared_leads:,} leads, side by side", columns, rows)


def _size_table(p99s_ms: dict[int, float]) -> Table:
    smallest = p99s_ms[min(p99s_ms)]
    rows = tuple((f"{total:,}", number(p99), ratio(p99, smallest)) for total, p99 in p99s_ms.items())
    return Table("Leads, one page at a time", ("leads", "p99 ms", "to the smallest"), rows)
