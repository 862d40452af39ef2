"""The intake as a bare script: the same body parsed, the same file kept durably, the same row committed with others.

One process, no framework, no server. As many threads as the load has connections; one commits for all.
"""

import os
import queue
import sqlite3
import threading
import time
from pathlib import Path

from python_multipart import MultipartParser

from bench.floors.disk import durable_database, keep_file
from bench.wrk import CONNECTIONS, RESUME_BYTES
from shared.database import LARGEST_GROUP
from shared.ids import new_id
from tests.harness.asgi import BOUNDARY, lead_form
from tests.harness.files import pdf

Row = tuple[str, str, str, str, str]


def intake_per_second(folder: Path, seconds: float) -> float:
    """Leads a second."""
    committer = Committer(folder / "script.db")
    resumes = folder / "resumes"
    resumes.mkdir()
    end_at = time.monotonic() + seconds
    counts = [0] * CONNECTIONS
    resume = pdf(RESUME_BYTES)
    descriptor = os.open(resumes, os.O_RDONLY)

    def work(number: int) -> None:
        while time.monotonic() < end_at:
            fields = parse(lead_form(f"{number}-{counts[number]}@bench.example", resume))
            name = new_id()
            keep_file(resumes, descriptor, name, fields["resume"])
            person = (fields[field].decode() for field in ("first_name", "last_name", "email"))
            committer.commit((new_id(), *person, name))
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CONNECTIONS)]
    began_at = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began_at
    os.close(descriptor)
    _check(committer.close(), resumes, sum(counts))
    return sum(counts) / took


class Committer:
    """Rows of many threads, committed in groups by one of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._waiting: queue.SimpleQueue[tuple[Row, threading.Event] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def commit(self, row: Row) -> None:
        """Returns when the row is durable."""
        done = threading.Event()
        self._waiting.put((row, done))
        done.wait()

    def close(self) -> int:
        """End the thread; returns how many rows there are."""
        self._waiting.put(None)
        self._thread.join()
        return int(sqlite3.connect(self._path).execute("SELECT count(*) FROM leads").fetchone()[0])

    def _run(self) -> None:
        database = durable_database(self._path)
        while (first := self._waiting.get()) is not None:
            group = [first]
            while len(group) < LARGEST_GROUP and not self._waiting.empty():
                group.append(self._waiting.get())  # the end comes when nobody commits any more: never in here
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO leads VALUES (?, ?, ?, ?, ?)", [row for row, _ in group])
            database.execute("COMMIT")
            for _, done in group:
                done.set()
        database.close()


def parse(body: bytes) -> dict[str, bytes]:
    """Each field of the form with its value."""
    fields: dict[str, list[bytes]] = {}
    header: list[bytes] = []
    current: list[bytes] = []

    def begin() -> None:
        nonlocal current
        current = []
        header.clear()

    def headers_end() -> None:
        fields[b"".join(header).split(b'name="', 1)[1].split(b'"', 1)[0].decode()] = current

    parser = MultipartParser(
        BOUNDARY,
        {
            "on_part_begin": begin,
            "on_header_value": lambda data, start, end: header.append(data[start:end]),
            "on_headers_finished": headers_end,
            "on_part_data": lambda data, start, end: current.append(data[start:end]),
        },
    )
    parser.write(body)
    parser.finalize()
    return {name: b"".join(pieces) for name, pieces in fields.items()}


def _check(rows: int, resumes: Path, counted: int) -> None:
    files = sum(1 for _ in resumes.iterdir())
    if (rows, files) != (counted, counted):
        raise AssertionError(f"{counted} leads were counted, but there are {rows} rows and {files} files")
