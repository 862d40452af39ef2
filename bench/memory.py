"""Memory: how much api and storage grow while many large uploads come in at once."""

import asyncio
import io
import secrets
from collections import Counter
from pathlib import Path

import aiohttp

from bench import kept, wrk
from bench.figures import Result, Table, at_most, number, reported
from bench.rounds import own_folder, say
from bench.size import Size
from services.cli.pinning import processors
from tests.harness.deployment import Deployment, deployed
from tests.harness.files import pdf

ROOMS = ("api", "storage")
MIB = 1024 * 1024
TARGET_MIB = 64
WARM_UP_SECONDS = 2
REST_SECONDS = 2.0
TRIES = 20
SETTINGS = {"LEADS_RESUME_MAX_BYTES": str(24 * MIB)}
ABOUT = (
    "{uploads} uploads of {megabytes} MB at once, `LEADS_RESUME_MAX_BYTES` raised for it, all else as it comes. Peak"
    " resident memory (VmHWM) of both processes, less what they held at rest after a little load. An upload that is"
    " told to come again (503) or that its bytes came too slowly (408) is sent again, and was counted."
)


async def measure(size: Size, folder: Path) -> Result:
    """One run."""
    resume = pdf(size.upload_bytes)
    with own_folder(folder, "memory") as room:
        async with deployed(room, SETTINGS, processors("auto")) as leads:
            warm = await wrk.post_leads(f"{leads.api_url}/leads", WARM_UP_SECONDS)
            await kept.wait_until_drained(leads)
            await asyncio.sleep(REST_SECONDS)
            before = {name: memory_mib(leads, name, "VmRSS") for name in ROOMS}
            for name in ROOMS:
                _forget_peak(leads, name)
            again = await _upload_all(leads, resume, size.uploads)
            peak = {name: memory_mib(leads, name, "VmHWM") for name in ROOMS}
            await kept.wait_until_drained(leads)
            kept.check_nothing_is_missing(leads, warm.accepted + size.uploads)
    grown = sum(peak.values()) - sum(before.values())
    say(f"memory: api and storage grew by {number(grown)} MiB")
    what = f"memory, {size.uploads} uploads of {size.upload_bytes / 1e6:.0f} MB at once, growth of api and storage"
    refusals = ", ".join(f"{many} × {status}" for status, many in sorted(again.items())) or "none"
    figures = (at_most(what, grown, TARGET_MIB, "MiB"), reported("of these uploads, refused and sent again", refusals))
    rows = tuple((name, number(before[name]), number(peak[name]), number(peak[name] - before[name])) for name in ROOMS)
    table = Table("Memory", ("room", "at rest MiB", "peak MiB", "growth MiB"), rows)
    return Result(ABOUT.format(uploads=size.uploads, megabytes=round(size.upload_bytes / 1e6)), figures, (table,))


def memory_mib(leads: Deployment, room: str, what: str) -> float:
    """`VmRSS` (now) or `VmHWM` (the most since it was forgotten) of a room's process (proc(5))."""
    status = Path(f"/proc/{leads.processes[room].pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(f"{what}:"))


def _forget_peak(leads: Deployment, room: str) -> None:
    """Let the peak begin anew (proc(5), clear_refs: 5)."""
    Path(f"/proc/{leads.processes[room].pid}/clear_refs").write_text("5")


async def _upload_all(leads: Deployment, resume: bytes, uploads: int) -> Counter[str]:
    """All at once; returns how often one was refused, by what it was told. Raises when one is never accepted."""
    refused = Counter[str]()
    connector, patient = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=patient) as session, asyncio.TaskGroup() as sending:
        for _ in range(uploads):
            sending.create_task(_upload(session, f"{leads.api_url}/leads", resume, refused))
    return refused


async def _upload(session: aiohttp.ClientSession, url: str, resume: bytes, refused: Counter[str]) -> None:
    email = f"{secrets.token_hex(8)}@bench.example"
    for _ in range(TRIES):
        form = aiohttp.FormData({"first_name": "Ann", "last_name": "Lee", "email": email})
        form.add_field("resume", io.BytesIO(resume), filename="cv.pdf", content_type="application/pdf")
        async with session.post(url, data=form) as answer:
            if answer.status == 201:
                return
            refused[str(answer.status)] += 1
            if answer.status not in {408, 503}:
                break
        await asyncio.sleep(int(answer.headers.get("Retry-After", "1")))
    raise AssertionError(f"an upload was not accepted: {dict(refused)}")
