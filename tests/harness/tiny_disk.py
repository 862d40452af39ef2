"""Disks so small that they can be filled: a tmpfs, where the test may mount one."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SIZE_MIB = 16


@contextmanager
def tiny_disks(folders: Sequence[Path]) -> Iterator[str]:
    """A disk of `SIZE_MIB` under each folder; yields why not, or nothing when all is well."""
    mounted: list[Path] = []
    trouble = ""
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m,mode=0700", "tmpfs", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                trouble = f"no disk can be mounted here, run as root to try it: {done.stderr.strip()}"
                break
            mounted.append(folder)
        yield trouble
    finally:
        for folder in reversed(mounted):
            subprocess.run(["umount", "-l", str(folder)], check=True)
