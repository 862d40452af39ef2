"""A data folder that is backed up and restored by the commands themselves, in this process, and what is in it then."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.cli.backup.command import run_backup, run_restore
from services.cli.backup.manifest import backups_in

LEADS = 30


@dataclass(frozen=True)
class Site:
    """A data folder in use, one to restore into, and a folder for backups."""

    data: Path
    empty: Path
    backups: Path
    use: Callable[[Path], None]
    """Makes the settings name another data folder."""

    def backup(self, *, keep: int | None = None) -> int:
        self.use(self.data)
        return run_backup(self.backups, keep)

    def restore(self, backup: Path | None = None) -> int:
        self.use(self.empty)
        return run_restore(backup or backups_in(self.backups)[0])


def blobs(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "resumes").iterdir() if path.is_file()}


def everything(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def dump(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return sorted(connection.iterdump())


def the_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one that was said of what went wrong."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("leads: ")
    return line
