"""What must hold after every bad input, whatever it was: the invariants I2 to I6, read from outside the processes.

Nothing here is asked of Leads: the databases are opened read-only, the folders listed, the processes looked at by their
ids, the logs read. The shape of a single answer (I1) is judged in `bad_inputs`.
"""

import asyncio
import hashlib
import json
import socket
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import make_url

from tests.harness.deployment import Deployment
from tests.harness.kept import blobs, rows

MIB = 1024 * 1024
SETTLE_SECONDS = 40.0
SLOW_SECONDS = 0.5
"""What a noisy machine may make of a healthy request, however quick it is when idle."""

FDS_SLACK = 12
"""Readers of a database pool that opened late, a mailbox file being written."""

KNOWN_IN_DATA = ("leads.db", "notifier.db", "queue.db", "resumes", "mailbox", "secrets")


@dataclass(frozen=True)
class Tally:
    """What Leads keeps, counted."""

    leads: int
    events: int
    queued: int
    dead: int
    blobs: int
    incoming: int
    mails: int

    def plus(self, leads: int, mails: int, dead: int = 0) -> "Tally":
        """What there should be after `leads` more leads, with `mails` e-mails and `dead` letters for them."""
        return Tally(
            leads=self.leads + leads,
            events=self.events + leads,
            queued=0,
            dead=self.dead + dead,
            blobs=self.blobs + leads,
            incoming=0,
            mails=self.mails + mails,
        )


def tally(deployment: Deployment) -> Tally:
    """Count now."""
    resumes, mailbox = deployment.resumes, deployment.mailbox
    return Tally(
        leads=_count(deployment.leads_db, "SELECT count(*) FROM leads"),
        events=_count(deployment.leads_db, "SELECT count(*) FROM outbox"),
        queued=_count(deployment.data / "queue.db", "SELECT count(*) FROM message WHERE dead_at IS NULL"),
        dead=_count(deployment.data / "queue.db", "SELECT count(*) FROM message WHERE dead_at IS NOT NULL"),
        blobs=len(blobs(deployment)),
        incoming=len(list((resumes / ".incoming").glob("[!p]*"))),
        mails=len(list(mailbox.glob("*.eml"))) if mailbox.exists() else 0,
    )


async def settle(deployment: Deployment, wanted: Tally) -> None:
    """Fails unless the tally is `wanted` soon."""
    with suppress(AssertionError):
        await until(lambda: tally(deployment) == wanted)
    found = tally(deployment)
    assert found == wanted, f"{found}, not {wanted}"


async def until(holds: Callable[[], bool], seconds: float = SETTLE_SECONDS) -> None:
    """Fails when it does not hold in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{holds} did not come true within {seconds} s"
        await asyncio.sleep(0.01)


def blob_hash(deployment: Deployment, blob_id: str) -> str:
    """SHA-256 of a stored resume."""
    return hashlib.sha256((deployment.resumes / blob_id).read_bytes()).hexdigest()


class Vitals:
    """Memory, open files and connections of the rooms (I4, I5)."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._processes = {room: psutil.Process(p.pid) for room, p in deployment.processes.items()}
        self._base_fds = self._open_fds()
        self._rested_fds = {room: process.num_fds() for room, process in self._processes.items()}
        self._begun = self.peak = self._memory()
        self._sockets_known: set[str] = set()

    def begin(self) -> None:
        """Measure memory from here on."""
        self._begun = self.peak = self._memory()

    def sample(self) -> None:
        """Remember the most that was seen."""
        self.peak = {room: max(self.peak[room], rss) for room, rss in self._memory().items()}

    def check_memory(self, limit_mib: int) -> None:
        """Fails when a room grew by more since `begin`."""
        self.sample()
        grown = {room: (self.peak[room] - rss) // MIB for room, rss in self._begun.items()}
        assert max(grown.values()) < limit_mib, f"memory grew by MiB: {grown}"

    async def check_fds(self) -> None:
        """Fails when descriptors are not given back."""
        limit = {room: count + FDS_SLACK for room, count in self._base_fds.items()}
        if any(process.num_fds() > self._rested_fds[room] for room, process in self._processes.items()):
            await until(lambda: all(count <= limit[room] for room, count in self._open_fds().items()))

    def check_connections(self) -> None:
        """Fails when a room has called anybody but another room, and its database."""
        sockets = self._sockets()
        if sockets == self._sockets_known:
            return  # to ask the system about each of them takes longer than most rows
        self._sockets_known = sockets
        rooms = {*self._deployment.ports.values(), *_database_ports(self._deployment)}
        for room, process in self._processes.items():
            for one in _connected(process):
                assert one.type is socket.SOCK_STREAM, f"{room} has {one}"
                if one.laddr.port != self._deployment.ports[room]:
                    assert (one.raddr.ip, one.raddr.port in rooms) == ("127.0.0.1", True), f"{room} called {one.raddr}"

    def _memory(self) -> dict[str, int]:
        return {room: process.memory_info().rss for room, process in self._processes.items()}

    def _sockets(self) -> set[str]:
        links: set[str] = set()
        for process in self._processes.values():
            for fd in Path(f"/proc/{process.pid}/fd").iterdir():
                with suppress(FileNotFoundError):
                    links.add(str(fd.readlink()))
        return {link for link in links if link.startswith("socket:")}

    def _open_fds(self) -> dict[str, int]:
        """Without the kept-alive connections between rooms, which come and go as they like."""
        return {room: process.num_fds() - self._between_rooms(process) for room, process in self._processes.items()}

    def _between_rooms(self, process: psutil.Process) -> int:
        storage = self._deployment.ports["storage"]
        return sum(storage in (one.laddr.port, one.raddr.port) for one in _connected(process))


class Surroundings:
    """Files outside the data folder (I5)."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._before = self._look()

    def check(self) -> None:
        """Fails when a file beside the data folder changed, or one within it has a name of its own."""
        changed = dict(self._look().items() ^ self._before.items())
        assert not changed, changed
        strangers = [one.name for one in self._deployment.data.iterdir() if not one.name.startswith(KNOWN_IN_DATA)]
        assert not strangers, strangers

    def _look(self) -> dict[str, tuple[int, int]]:
        own = [self._deployment.data, *(self._deployment.log_file(room) for room in self._deployment.processes)]
        found: dict[str, tuple[int, int]] = {}
        for top in (self._deployment.folder, self._deployment.folder.parent):
            for path in (p for p in top.iterdir() if p not in own and p != self._deployment.folder):
                found |= {str(p): _facts(p) for p in ([path, *path.rglob("*")] if path.is_dir() else [path])}
        return found


class Logs:
    """What the rooms wrote since the last look (I6)."""

    def __init__(self, deployment: Deployment, secret_words: Mapping[str, str]) -> None:
        self._deployment = deployment
        self._secret_words = secret_words
        self._read_bytes = dict.fromkeys(deployment.processes, 0)
        self.news()

    def news(self) -> list[dict[str, Any]]:
        """The new records. Fails if a line is not one JSON object, or says what no log may say."""
        records = []
        for room in self._deployment.processes:
            for line in self._new_lines(room):
                records.append(_object(line))
                told = [what for what, word in self._secret_words.items() if word in line]
                assert not told, f"{room} logged {told}: {line}"
        return records

    def _new_lines(self, room: str) -> list[str]:
        with self._deployment.log_file(room).open("rb") as log:
            log.seek(self._read_bytes[room])
            whole = log.read().rpartition(b"\n")[0]
        self._read_bytes[room] += len(whole) + bool(whole)
        return whole.decode().split("\n") if whole else []


class Pulse:
    """A healthy caller beside the bad one (I4): calls again and again and remembers the longest wait."""

    def __init__(self, call: Callable[[], Awaitable[int]], vitals: Vitals) -> None:
        self._call = call
        self.vitals = vitals
        self.limit_seconds = SLOW_SECONDS

    async def rest(self, times: int = 40) -> None:
        """Learn how quick an idle Leads is."""
        waits = sorted([await self._beat() for _ in range(times)])
        self.limit_seconds = max(4 * waits[int(0.95 * times)], SLOW_SECONDS)

    async def beside(self, work: Awaitable[Any], limit_seconds: float | None = None) -> Any:
        """The result of `work`. Fails when a call made meanwhile took longer than `limit_seconds`."""
        busy = asyncio.ensure_future(work)
        longest = 0.0
        try:
            while not busy.done() or not longest:
                longest = max(longest, await self._beat())
                self.vitals.sample()
                await asyncio.wait({busy}, timeout=0.005)
        finally:
            if not busy.done():
                busy.cancel()
        assert longest < (limit_seconds or self.limit_seconds), f"a healthy request took {longest:.2f} s"
        return await busy

    async def _beat(self) -> float:
        began_at = time.perf_counter()
        status = await self._call()
        assert status == 200, f"a healthy request was answered {status}"
        return time.perf_counter() - began_at


def _connected(process: psutil.Process) -> list[Any]:
    return [one for one in process.net_connections(kind="inet") if one.status != "LISTEN" and len(one.laddr) > 0]


def _database_ports(deployment: Deployment) -> list[int | None]:
    """Where the servers listen that keep the rows, if servers do."""
    return [make_url(url).port for url in (deployment.leads_db, deployment.notifier_db) if isinstance(url, str)]


def _count(database: Path | str, query: str) -> int:
    if isinstance(database, str):
        return int(rows(database, query)[0][0])
    if not database.exists():
        return 0  # a room that has had nothing to keep yet
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as connection:
        if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None:
            return 0  # a file that was made a moment ago, and has no tables yet
        return int(connection.execute(query).fetchone()[0])


def _facts(path: Path) -> tuple[int, int]:
    """Size and time of change; of a folder neither, for what matters is what is in it."""
    status = path.lstat()
    return (0, 0) if path.is_dir() else (status.st_size, status.st_mtime_ns)


def _object(line: str) -> dict[str, Any]:
    record = json.loads(line)
    assert isinstance(record, dict)
    return record
