"""Search: how long staff wait for the leads with a word in their resumes, by how many have it.

Rows and their words go straight into the database and the index; one question after the other is asked through the api.
"""

import asyncio
import random
import sqlite3
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from bench.figures import Result, Table, at_most, number, percentile, reported
from bench.peers.leads import Leads
from bench.rounds import own_folder, say
from bench.size import Size
from services.api.resume_search import index
from services.api.resume_search.index import Reading, ReadOutcome
from shared.database import Database
from tests.harness.client import Client
from tests.harness.deployment import ADMIN, PASSWORD

P95_MS = 50
SHARES: Mapping[str, float] = {"rare": 0.001, "usual": 0.01, "frequent": 0.1, "common": 0.3}
"""Of the resumes, which have a word of that kind."""

VOCABULARY: Mapping[str, int] = {"rare": 20_000, "usual": 5_000, "frequent": 1_000, "common": 300}
"""Words of that kind: some 260 in a resume."""

BAGS = 5_000
"""Different sets of words; resumes share them."""

AT_ONCE = 1_000
"""Resumes in one transaction, in the order of their leads. In life each is one by itself, which takes longer in all."""

WARM_UP = 5
ABOUT = (
    "The newest 50 leads with a word in their resumes, signed in, one question after the other, each for another word"
    " ({questions:,} in all), by how many of the {leads:,} resumes have it. Each resume has some 260 different words."
    " Rows and words were put straight into database and index."
)


async def measure(size: Size, folder: Path) -> Result:
    """One deployment with the search switched on."""
    dice = random.Random(size.compared_leads)
    with own_folder(folder, "search") as room:
        async with Leads(room, {"LEADS_RESUME_SEARCH": "true"}) as leads:
            await leads.deployment.stop("api")  # or it would look for the resumes of the rows that come now
            await asyncio.to_thread(leads.fill, size.compared_leads)
            began_at = time.monotonic()
            await _fill_index(leads, dice)
            filled_seconds = time.monotonic() - began_at
            await leads.deployment.restart("api")
            spans = await _ask(leads, dice, size.questions)
            database_mib = (leads.deployment.data / "leads.db").stat().st_size / 1024**2
    all_ms = [one for of in spans.values() for one in of]
    figures = (
        at_most(
            f"search by a word of the resume, {size.compared_leads:,} leads, p95",
            percentile(all_ms, 0.95),
            P95_MS,
            "ms",
        ),
        reported("words of as many resumes written into the index", f"{number(filled_seconds)} s"),
        reported("database with its index", f"{number(database_mib)} MiB"),
    )
    about = ABOUT.format(questions=len(all_ms), leads=size.compared_leads)
    return Result(about, figures, (_table(spans),))


async def _fill_index(leads: Leads, dice: random.Random) -> None:
    with sqlite3.connect(leads.deployment.data / "leads.db") as connection:
        rows = connection.execute("SELECT id, created_at FROM leads ORDER BY created_at").fetchall()
    connection.close()
    bags = [_bag(dice) for _ in range(BAGS)]
    database = Database(f"sqlite:///{leads.deployment.data / 'leads.db'}")
    try:
        for begin in range(0, len(rows), AT_ONCE):
            read = [
                Reading(lead_id, datetime.fromisoformat(created_at), ReadOutcome.READ, dice.choice(bags))
                for lead_id, created_at in rows[begin : begin + AT_ONCE]
            ]
            await database.write(partial(_add_all, readings=read))
    finally:
        await database.close()
    say(f"search: the words of {len(rows):,} resumes are in the index")


def _add_all(session: Session, readings: Sequence[Reading]) -> None:
    for one in readings:
        index.add(session, one)


def _bag(dice: random.Random) -> Sequence[str]:
    """So many words of each kind that each is in its share of the bags."""
    return [
        f"{kind}{which}"
        for kind, share in SHARES.items()
        for which in dice.sample(range(VOCABULARY[kind]), round(share * VOCABULARY[kind]))
    ]


async def _ask(leads: Leads, dice: random.Random, questions: int) -> Mapping[str, Sequence[float]]:
    """Milliseconds of each question, by the kind of its word."""
    spans: dict[str, list[float]] = {kind: [] for kind in SHARES}
    async with Client(leads.deployment.api_url) as client:
        await client.login(ADMIN, PASSWORD)
        for kind in SHARES:
            asked = dice.sample(range(VOCABULARY[kind]), WARM_UP + questions // len(SHARES))
            for turn, which in enumerate(asked):
                took_ms = await _one(client, f"{kind}{which}")
                if turn >= WARM_UP:
                    spans[kind].append(took_ms)
            say(f"search: {kind} words: p95 {number(percentile(spans[kind], 0.95))} ms")
    return spans


async def _one(client: Client, word: str) -> float:
    began_at = time.perf_counter()
    answer = await client.call("GET", "/leads", params={"resume": word})
    took_ms = (time.perf_counter() - began_at) * 1000
    if answer.status != 200 or not answer.json["items"]:
        raise AssertionError(f"the search for {word} was answered {answer.status}: {answer.body[:200]!r}")
    return took_ms


def _table(spans: Mapping[str, Sequence[float]]) -> Table:
    rows = tuple(
        (f"{SHARES[kind]:.1%}", *(number(percentile(of, share)) for share in (0.5, 0.95, 1.0)))
        for kind, of in spans.items()
    )
    return Table("Leads found by a word", ("of all resumes have it", "p50 ms", "p95 ms", "longest ms"), rows)
