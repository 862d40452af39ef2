"""Rounds by turns, so that whatever else the machine does meanwhile disturbs all alike."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")


def rotated(items: Sequence[Item], by: int) -> list[Item]:
    """The same in another order: nobody comes always first, or always after the same other."""
    by %= len(items)
    return [*items[by:], *items[:by]]


@contextmanager
def own_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder that is gone afterwards, with what was in it on its way to the disk.

    Who writes without fsync leaves work to the kernel, which would be done in the next one's time.
    """
    folder = parent / name.lower().replace(" ", "-").replace(",", "")
    folder.mkdir()
    os.sync()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        os.sync()


def say(line: str) -> None:
    """How far it is, for whoever waits."""
    print(line, file=sys.stderr, flush=True)
