"""Disks so small that they can be filled, taken away or made read-only: a tmpfs, where the test may mount one."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

SIZE_MIB = 16
FILLER = "filler"
_PIECES_BYTES = (65536, 1024, 1)


@contextmanager
def tiny_disks(folders: Sequence[Path], *, size_mib: int = SIZE_MIB) -> Iterator[str]:
    """A disk of that size under each folder; yields why not, or nothing when all is well."""
    mounted: list[Path] = []
    trouble = ""
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            refused = _run("mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0700", "tmpfs", str(folder))
            if refused:
                trouble = f"no disk can be mounted here, run as root to try it: {refused}"
                break
            mounted.append(folder)
        yield trouble
    finally:
        for folder in reversed(mounted):
            subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def filled(folder: Path, *, but_bytes: int = 0) -> Iterator[None]:
    """No room on the disk of that folder, or `but_bytes` of it and no more."""
    filler = folder / FILLER
    try:
        fill_up(folder)
        if but_bytes:
            os.truncate(filler, max(0, filler.stat().st_size - but_bytes))
        yield
    finally:
        filler.unlink()


def fill_up(folder: Path) -> None:
    """Take what room there is, again if somebody gave some back since: a broker that rolls its log over does."""
    with (folder / FILLER).open("ab", buffering=0) as file:
        for piece_bytes in _PIECES_BYTES:
            _extend(file.fileno(), piece_bytes)


@asynccontextmanager
async def read_only(folder: Path) -> AsyncIterator[None]:
    """The disk of that folder may only be read. As long as a file is open for writing there, the kernel refuses."""
    await _until_it_does("mount", "-o", "remount,ro", str(folder))
    try:
        yield
    finally:
        await _until_it_does("mount", "-o", "remount,rw", str(folder))


@contextmanager
def vanished(folder: Path) -> Iterator[None]:
    """The disk of that folder is not mounted there, and comes back with all that is on it."""
    elsewhere = folder.with_name(f"{folder.name}.elsewhere")
    elsewhere.mkdir()
    subprocess.run(["mount", "--bind", str(folder), str(elsewhere)], check=True)
    try:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        yield
    finally:
        subprocess.run(["mount", "--bind", str(elsewhere), str(folder)], check=True)
        subprocess.run(["umount", "-l", str(elsewhere)], check=True)


def _extend(descriptor: int, piece_bytes: int) -> None:
    """By pieces, for as long as there is room."""
    try:
        while True:
            os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, piece_bytes)
    except OSError:
        return


async def _until_it_does(*command: str) -> None:
    async with asyncio.timeout(10):
        while _run(*command):
            await asyncio.sleep(0.005)


def _run(*command: str) -> str:
    """What it complained of, or nothing when it worked."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stderr.strip() or str(done.returncode)) if done.returncode else ""
