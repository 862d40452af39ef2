"""A 201 is sent after everything it promises is on the disk: watched at the system calls of the real processes.

Sixteen clients at once, so that syncs are shared; the database's log is checkpointed meanwhile, so that it begins anew.
`LEADS_CHAOS=long` follows 1,000 leads. How an order is judged stands in `write_order.py`.
"""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.verdicts import Figure, Verdicts
from tests.chaos.write_order import STRING_BYTES, WATCHED, Where, faults, look
from tests.harness.client import Answer, Client
from tests.harness.deployment import Deployment
from tests.harness.files import pdf
from tests.harness.kept import rows
from tests.harness.missing import cannot_run
from tests.harness.sizes import EMBEDDED, embedded
from tests.harness.strace import MISSING, TraceForbidden, find_strace, read_calls, tracing
from tests.harness.tus import Sender

IS_LONG = os.environ.get("LEADS_CHAOS") == "long"
LEADS = 1_000 if IS_LONG else 40
CLIENTS = 16
CHECKPOINTS = 20 if IS_LONG else 2
BY_TICKET = 4
"""One lead in so many comes by a ticket."""

WATCHED_ROOMS = ("storage", "api")


async def post_leads(deployment: Deployment) -> dict[str, str]:
    """The leads that were answered 201: the id of each, and that of its blob."""
    numbers, kept = iter(range(LEADS)), {}

    async def client() -> None:
        async with Client(deployment.api_url) as client:
            for number in numbers:
                send = by_ticket if number % BY_TICKET == 0 else Client.post_lead
                answer = await send(client, f"ordered{number}@example.com", pdf(1_000, seed=number))
                assert answer.status == 201
                kept[answer.json["id"]] = answer.json["resume_path"]
                if number % (LEADS // CHECKPOINTS) == LEADS // CHECKPOINTS // 2:
                    await asyncio.to_thread(begin_log_anew, deployment.data / "leads.db")

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return kept


async def by_ticket(client: Client, email: str, resume: bytes) -> Answer:
    """The resume goes to the storage in two pieces, and the lead follows."""
    wanted = {"filename": "cv.pdf", "size_bytes": len(resume)}
    offer = (await client.call("POST", "/leads/uploads", json=wanted)).json
    async with Sender(offer["upload_url"], offer["ticket"]) as sender:
        for stop in (500, len(resume)):
            assert (await sender.send_all(resume[:stop])).offset == stop
    lead = {"first_name": "Ann", "last_name": "Lee", "email": email, "ticket": offer["ticket"]}
    return await client.call("POST", "/leads", json=lead)


def begin_log_anew(database: Path) -> None:
    """All that is in the log goes into the database, and the next commit starts at the log's begin."""
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        connection.execute("PRAGMA wal_checkpoint(RESTART)")


@pytest.mark.timeout(0 if IS_LONG else 120)
async def test_resume_and_lead_are_on_the_disk_before_the_201_is_sent(tmp_path: Path, verdicts: Verdicts):
    if find_strace() is None:
        cannot_run(MISSING)
    trace = tmp_path / "trace"
    async with embedded(tmp_path / "house") as house:
        deployment = house.deployment
        for room in WATCHED_ROOMS:
            await deployment.stop(room)
            deployment.launch(room, settings={"LEADS_STORAGE_PUBLIC_URL": deployment.url("storage")})
            await deployment.ready(room)
        pids = [deployment.processes[room].pid for room in WATCHED_ROOMS]
        try:
            async with tracing(pids, trace, WATCHED, string_bytes=STRING_BYTES):
                kept = await post_leads(deployment)
        except TraceForbidden as error:
            cannot_run(f"strace may not watch a process here: {error}")
        assert kept == dict(rows(deployment.leads_db, "SELECT id, resume_path FROM leads"))
        ports = {f"{room}_port": deployment.ports[room] for room in WATCHED_ROOMS}
    where = Where(str(deployment.resumes), str(deployment.data / "leads.db-wal"), **ports)
    seen = look(read_calls(trace), where)

    found = faults(seen, kept)
    wrong = {fault.partition(":")[0] for fault in found}
    in_order = f"{len(kept) - len(wrong):,} of {len(kept):,}"
    verdicts.figures.append(Figure(EMBEDDED, "resume and lead on the disk before the 201", f"{LEADS:,}", in_order))
    at_begin = sum(seen.began_a_log(lead) for lead in kept)
    print(
        f"\norder before 201: {in_order} leads in order; "
        f"{len(seen.folder_syncs)} syncs of the folder, {len(seen.wal_syncs)} of the log; "
        f"{at_begin} leads in the first commit of a log"
    )
    assert found == []
    assert len(kept) == LEADS
    assert at_begin > 0, "a log that begins anew is part of the proof"
