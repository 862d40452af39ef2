"""How much a room keeps on its disk, and how much that disk can still take: for the gauges."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from shared.metrics import DISK_CAPACITY, DISK_FREE, STORED_BYTES

SQLITE_SUFFIXES = ("", "-wal", "-shm")
"""A database in use is these files (https://www.sqlite.org/walformat.html)."""


def local_places(**urls: str) -> dict[str, Path]:
    """Those of the named `urls` that are a file of ours (`sqlite:///path`); the others are somebody else's disk."""
    parts = {name: url.partition(":///") for name, url in urls.items()}
    return {name: Path(path) for name, (scheme, _, path) in parts.items() if scheme.startswith("sqlite") and path}


async def measure_databases(places: Mapping[str, Path]) -> None:
    """Set the gauges of each place, which is a database's file. Raises `OSError`."""
    for place, file in places.items():
        _show(place, file.parent, _database_bytes(file))


async def measure_folder(place: str, folder: Path) -> None:
    """Set the gauges of a place that is a folder of files. Raises `OSError`."""
    _show(place, folder, await asyncio.to_thread(_folder_bytes, folder))


def _show(place: str, folder: Path, stored_bytes: int) -> None:
    disk = shutil.disk_usage(folder)
    STORED_BYTES.labels(place).set(stored_bytes)
    DISK_FREE.labels(place).set(disk.free)
    DISK_CAPACITY.labels(place).set(disk.total)


def _database_bytes(file: Path) -> int:
    parts = [file.with_name(file.name + suffix) for suffix in SQLITE_SUFFIXES]
    return sum(part.stat().st_size for part in parts if part.exists())


def _folder_bytes(folder: Path) -> int:
    """Of the files right in it. One that goes meanwhile is not counted."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_size
    return total
