"""Takes a backup while everything runs.

The order makes it consistent: first `leads.db` at one instant, then `notifier.db` at once, then the resumes of the
leads in that copy. A resume is stored before its lead and never changes, so each of them is there, and the same.
Nothing has its name, and there is no manifest, before all of it is on the disk.
"""

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from services.cli.backup.files import copy, link, sync_all
from services.cli.backup.manifest import (
    LEADS_DB,
    MANIFEST,
    NOTIFIER_DB,
    RESUMES,
    Manifest,
    backups_in,
    count_leads,
    digests,
    is_name,
    name_of,
    resumes_of,
    schemas,
)
from services.cli.backup.places import BackupFailed, Places, told
from services.cli.turn import locked, open_lock
from services.storage.folder import open_private, sync_folder
from shared.sqlite import TELLING, open_for_reading, primary_code
from shared.version import VERSION

LOCK = ".lock"
PARTIAL = ".partial"
"""How the name of what is not whole ends: being made, cut short, or being dropped."""


@dataclass
class Taken:
    """What came of it."""

    folder: Path
    leads: int = 0
    resumes: int = 0
    resumes_bytes: int = 0
    new_bytes: int = 0
    """Bytes that were copied: the others are shared with an earlier backup."""
    databases_bytes: int = 0
    faults: list[str] = field(default_factory=list)
    """A line for each resume that could not be had."""


def take(places: Places, folder: Path) -> Taken:
    """Make a backup in `folder`. Raises `BackupFailed`, and has made none then."""
    now = datetime.now(UTC)
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _alone(folder):
        partial = folder / f"{name_of(now)}{PARTIAL}"
        try:
            with told(folder):
                _clear(folder)
                partial.mkdir(mode=0o700)
                taken = _fill(partial, places, next(iter(backups_in(folder)), None), now)
                taken.folder = partial.rename(folder / name_of(now))
                sync_folder(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return taken


def drop_older(latest: Path, keep: int) -> int:
    """Drop all backups beside `latest` but the newest `keep`; how many went. Raises `BackupFailed`."""
    folder = latest.parent
    with _alone(folder), told(folder):
        beyond = [backup for backup in backups_in(folder)[keep:] if not backup.is_symlink()]  # that is kept elsewhere
        old = [backup for backup in beyond if backup != latest]  # the clock may have been set back
        for backup in old:
            backup.rename(f"{backup}{PARTIAL}")  # one that is cut short while it goes is none either
        _clear(folder)
    return len(old)


def _fill(partial: Path, places: Places, earlier: Path | None, now: datetime) -> Taken:
    leads_db, notifier_db = partial / LEADS_DB, partial / NOTIFIER_DB
    _copy_database(places.leads_db, leads_db)
    _copy_database(places.notifier_db, notifier_db)
    _finish(places.leads_db, leads_db)
    _finish(places.notifier_db, notifier_db)
    with told(places.notifier_db):
        _drop_emails_of_the_meantime(notifier_db, leads_db, now)
    databases_bytes = leads_db.stat().st_size + notifier_db.stat().st_size
    taken = Taken(partial, leads=count_leads(leads_db), databases_bytes=databases_bytes)
    _keep_resumes(taken, places.resumes, earlier)
    sync_all(partial)
    manifest = Manifest(
        leads_version=VERSION,
        taken_at=now,
        schemas=schemas(partial),
        sha256=digests(partial),
        leads=taken.leads,
        resumes=taken.resumes,
        resumes_bytes=taken.resumes_bytes,
        resumes_missing=len(taken.faults),
    )
    with os.fdopen(open_private(str(partial / MANIFEST), os.O_WRONLY | os.O_CREAT | os.O_EXCL), "w") as file:
        file.write(manifest.model_dump_json(indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(partial)
    return taken


def _copy_database(source: Path, target: Path) -> None:
    """The database at one instant, in one step: between several, another process's write would begin it anew.

    Readers and writers go on meanwhile (https://www.sqlite.org/backup.html, WAL).
    """
    os.close(open_private(str(target), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    with told(source), closing(open_for_reading(source)) as live, closing(sqlite3.connect(target)) as copied:
        copied.execute("PRAGMA synchronous = OFF")  # `sync_all` comes in the end
        try:
            live.backup(copied)
        except sqlite3.Error as error:
            if primary_code(error) == sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target.parent)) from error
            raise


def _finish(source: Path, copied: Path) -> None:
    """One file, and sound."""
    with told(source), closing(sqlite3.connect(copied)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise BackupFailed(f"{source} {TELLING[sqlite3.SQLITE_CORRUPT]}")


def _drop_emails_of_the_meantime(notifier_db: Path, leads_db: Path, began_at: datetime) -> None:
    """Their leads came between the two copies, and are not in this backup. An older one shows that a lead is lost."""
    with closing(sqlite3.connect(notifier_db)) as connection:
        connection.execute("ATTACH ? AS api", (str(leads_db),))
        with connection:
            connection.execute(
                "DELETE FROM emails WHERE created_at >= ? AND lead_id NOT IN (SELECT id FROM api.leads)",
                (f"{began_at:%Y-%m-%d %H:%M:%S.%f}",),
            )


def _keep_resumes(taken: Taken, source: Path, earlier: Path | None) -> None:
    target = taken.folder / RESUMES
    target.mkdir(mode=0o700)
    for resume in resumes_of(taken.folder / LEADS_DB):
        copied = f"{target}/{resume.id}"
        if earlier is None or not link(resume, f"{earlier}/{RESUMES}/{resume.id}", copied):
            fault = copy(resume, f"{source}/{resume.id}", copied)
            if fault is not None:
                taken.faults.append(f"{source / resume.id} {fault}, and is not in the backup")
                continue
            taken.new_bytes += resume.size_bytes
        taken.resumes += 1
        taken.resumes_bytes += resume.size_bytes


def _clear(folder: Path) -> None:
    """Remove what was cut short: whoever made it is gone, since we hold the lock. What is not ours stays."""
    for left in folder.glob(f"*{PARTIAL}"):
        if is_name(left.name.removesuffix(PARTIAL)) and left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with told(folder):
        descriptor = open_lock(folder / LOCK)
    try:
        if not locked(descriptor):
            raise BackupFailed(f"{folder}: another backup is being made there")
        yield
    finally:
        with suppress(OSError):
            os.close(descriptor)
