"""How many files and how many rows this machine keeps durably in a second."""

import os
import sqlite3
import threading
import time
from pathlib import Path

from bench.wrk import RESUME_BYTES
from shared.ids import new_id

THREADS = 8
"""The file system lets several fsyncs share its journal's commit; with more threads there is no more to share."""


def files_per_second(folder: Path, seconds: float) -> float:
    """Files of 64 KiB: written, fsynced, renamed, and their folder fsynced; by several threads."""
    resumes, content = folder / "files", os.urandom(RESUME_BYTES)
    resumes.mkdir()
    descriptor = os.open(resumes, os.O_RDONLY)
    end_at = time.monotonic() + seconds

    def work() -> None:
        while time.monotonic() < end_at:
            keep_file(resumes, descriptor, new_id(), content)

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    began_at = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - began_at
    os.close(descriptor)
    return sum(1 for _ in resumes.iterdir()) / took


def commits_per_second(folder: Path, seconds: float) -> float:
    """Transactions of one row each, one after the other (WAL, `synchronous=FULL`)."""
    database = durable_database(folder / "commits.db")
    count, began_at = 0, time.monotonic()
    while (now := time.monotonic()) < began_at + seconds:
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO leads VALUES (?, 'Ann', 'Lee', ?, 'cv')", (new_id(), f"{count}@bench.example"))
        database.execute("COMMIT")
        count += 1
    database.close()
    return count / (now - began_at)


def keep_file(folder: Path, folder_descriptor: int, name: str, content: bytes) -> None:
    """On the disk under its name when this returns."""
    part = folder / f".{name}"
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.rename(folder / name)
    os.fsync(folder_descriptor)


def durable_database(path: Path) -> sqlite3.Connection:
    """A new database whose commits are on the disk when they return, with a table of leads."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(
        "CREATE TABLE leads (id TEXT PRIMARY KEY, first_name TEXT, last_name TEXT, email TEXT UNIQUE, resume_path TEXT)"
    )
    return database
