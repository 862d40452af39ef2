"""Disks that are full, read-only or away under load: 503 and nothing else, and on as soon as they are well again.

Every store has a tiny disk of its own. What is out of reach here: to take a file away from under a room that has it
open (SQLite goes on in a file without a name; the embedded bus notices, see `shared/bus/embedded/file.py`), and to
make a disk read-only on which a room has a file open for writing, as databases are: the kernel refuses (EBUSY).
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

import pytest
import pytest_asyncio

from services.storage.sweep import SWEEP_EVERY_SECONDS
from tests.chaos.rig import IS_LONG, SETTINGS, Rig
from tests.chaos.storm import Storm
from tests.harness import kept
from tests.harness.client import Client
from tests.harness.deployment import ROOMS, Deployment, deployed
from tests.harness.files import pdf
from tests.harness.inbox import mailbox_inbox
from tests.harness.missing import cannot_run
from tests.harness.sizes import EMBEDDED, STAFF, House
from tests.harness.tiny_disk import filled, read_only, tiny_disks, vanished

pytestmark = pytest.mark.asyncio(loop_scope="module")

DATABASES = ("leads.db", "notifier.db", "queue.db")
FOLDERS = ("resumes", "mailbox")
SIZE_MIB = 64
LEADS = 1_000 if IS_LONG else 150
FAULT_SECONDS = 3.0 if IS_LONG else 1.5
SERVING_AGAIN_SECONDS = 5.0
NOT_MISSED = frozenset({"leads.db", "notifier.db"})
"""SQLite goes on in the files that it has open, and they are there when the disk is back."""

LITTLE_BYTES = {True: 60_000, False: 200_000}
"""What is left of the disk of a database, whose log begins anew, and of another."""


def disk_of(deployment: Deployment, store: str) -> Path:
    """The folder on whose disk that store is."""
    return deployment.data / (f"{store}.disk" if store in DATABASES else store)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rig(tmp_path_factory, verdicts):
    """The embedded size; a disk for each store."""
    folder = tmp_path_factory.mktemp("disks")
    data = folder / "data"
    disks = [*(data / f"{name}.disk" for name in DATABASES), *(data / name for name in FOLDERS)]
    with tiny_disks(disks, size_mib=SIZE_MIB) as trouble:
        if trouble:
            cannot_run(trouble)
        for name in DATABASES:
            (data / name).symlink_to(data / f"{name}.disk" / name)
        settings = {
            **SETTINGS,
            "LEADS_STAFF_EMAIL": STAFF,
            "LEADS_STORAGE_MIN_FREE_BYTES": "0",
            "LEADS_STORAGE_TEMP_GRACE_SECONDS": "5",  # or the next sweep but one would come too late for the test
        }
        async with deployed(folder, settings) as deployment:
            processes = dict(deployment.processes)
            yield Rig(House(deployment, mailbox_inbox(deployment.mailbox)), EMBEDDED, verdicts)
            assert deployment.processes == processes, "no room was started anew"
            assert all(process.poll() is None for process in processes.values())


async def suffer(
    rig: Rig,
    name: str,
    fault: Callable[[], AbstractAsyncContextManager[None]],
    *,
    sweeps: bool = False,
    is_felt: bool = True,
) -> None:
    """The fault comes under load, and goes; then a lead must be taken again within 5 s.

    `sweeps`: what was half-written cannot be removed at once, but by the storage's own sweep. A fault that no room
    warns of shows nothing, unless it is one that is not felt.
    """
    seconds, warned = [0.0], troubles(rig.deployment)

    async def nemesis(storm: Storm) -> int:
        await storm.reaches(LEADS // 3)
        async with fault():
            await asyncio.sleep(FAULT_SECONDS)
        healed_at = time.time()
        taken = storm.answered
        await storm.reaches(min(LEADS, taken + storm.gave_up + 1))
        seconds[0] = time.time() - healed_at
        return 1

    storm = await rig.run(name, nemesis, leads=LEADS)
    refused = sum(attempt.status == 503 for attempt in storm.ledger)
    rig.figure(f"{name}: serving again", "≤ 5 s, only 503", f"{seconds[0]:.2f} s, {refused} × 503")
    assert {attempt.status for attempt in storm.ledger} <= {201, 503}
    assert seconds[0] <= SERVING_AGAIN_SECONDS
    assert (troubles(rig.deployment) > warned) == is_felt
    swept_by = time.monotonic() + (2 * SWEEP_EVERY_SECONDS if sweeps else 0.0)
    while kept.unfinished(rig.deployment) and time.monotonic() < swept_by:
        await asyncio.sleep(0.5)
    whole(rig.deployment)


def troubles(deployment: Deployment) -> int:
    """How often the rooms have warned so far."""
    logs = (deployment.log_file(room).read_text() for room in ROOMS)
    return sum(json.loads(line)["level"] in {"warning", "error"} for log in logs for line in log.splitlines())


def whole(deployment: Deployment) -> None:
    """Every database is sound, and nothing half-written is left."""
    for name in DATABASES:
        with closing(sqlite3.connect(deployment.data / name)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert kept.unfinished(deployment) == set()
    assert [path.name for path in deployment.mailbox.iterdir() if path.name.endswith(".tmp")] == []


def cut_back_log(deployment: Deployment, store: str) -> None:
    """A database whose log is empty needs room for the next thing that it is to keep."""
    if store in DATABASES:
        with closing(sqlite3.connect(deployment.data / store, timeout=10)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.mark.timeout(0 if IS_LONG else 120)
@pytest.mark.parametrize(
    "store", ["resumes", *(pytest.param(store, marks=pytest.mark.long) for store in (*DATABASES, "mailbox"))]
)
async def test_a_full_disk_is_503_at_most_and_goes_on_once_there_is_room(rig: Rig, store: str):
    @asynccontextmanager
    async def fault() -> AsyncIterator[None]:
        cut_back_log(rig.deployment, store)
        with filled(disk_of(rig.deployment, store)):
            yield

    await suffer(rig, f"disk of {store} full", fault)


@pytest.mark.long
@pytest.mark.timeout(0 if IS_LONG else 120)
@pytest.mark.parametrize("store", ["resumes", *DATABASES, "mailbox"])
async def test_a_disk_that_leads_themselves_fill(rig: Rig, store: str):
    """A little room is left: they find its end half-way through what they write."""

    @asynccontextmanager
    async def fault() -> AsyncIterator[None]:
        cut_back_log(rig.deployment, store)
        with filled(disk_of(rig.deployment, store), but_bytes=LITTLE_BYTES[store in DATABASES]):
            yield

    await suffer(rig, f"disk of {store} filled by leads", fault)


@pytest.mark.long
@pytest.mark.timeout(0 if IS_LONG else 120)
@pytest.mark.parametrize("store", FOLDERS)
async def test_a_disk_that_may_only_be_read(rig: Rig, store: str):
    disk = disk_of(rig.deployment, store)
    await suffer(rig, f"disk of {store} read-only", lambda: read_only(disk), sweeps=True)


@pytest.mark.long
@pytest.mark.timeout(0 if IS_LONG else 120)
@pytest.mark.parametrize("store", ["resumes", *DATABASES, "mailbox"])
async def test_a_disk_that_is_away_and_comes_back(rig: Rig, store: str):
    @asynccontextmanager
    async def fault() -> AsyncIterator[None]:
        with vanished(disk_of(rig.deployment, store)):
            yield

    await suffer(rig, f"disk of {store} away", fault, sweeps=True, is_felt=store not in NOT_MISSED)


@pytest.mark.long
async def test_a_resume_is_read_again_after_all_that(rig: Rig):
    async with Client(rig.deployment.api_url) as client:
        assert (await client.post_lead("after-all@example.com", pdf(3000))).status == 201
