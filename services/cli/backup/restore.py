"""Puts a backup back, into a deployment that has no data and does not run.

All is checked before anything is written. Resumes come first: without a lead they mean nothing. The databases are
made ready beside their places, and `leads.db` is the last to get its name: until then there is no lead, so a restore
that was cut short can simply be run again.
"""

import os
import shutil
import socket
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from services.api.settings import MIGRATIONS as API_MIGRATIONS
from services.api.settings import ApiSettings
from services.cli.backup.doubts import Doubts, write_down
from services.cli.backup.files import copy, is_whole, sync_all
from services.cli.backup.manifest import LEADS_DB, NOTIFIER_DB, RESUMES, Manifest, name_of, resumes_of, verified
from services.cli.backup.places import BackupFailed, Places, told
from services.cli.turn import INIT_LOCK, turn
from services.notifier.settings import MIGRATIONS as NOTIFIER_MIGRATIONS
from services.notifier.settings import NotifierSettings
from services.storage.folder import INCOMING, prepare_folder, remove, sync_folder
from shared.database import Database
from shared.disk import SQLITE_SUFFIXES
from shared.ids import is_id
from shared.settings import authority
from shared.sqlite import open_for_reading

STAGED = ".restoring"
ANSWER_SECONDS = 2.0


@dataclass
class Restored:
    """What came of it."""

    manifest: Manifest
    resumes: int = 0
    doubts: Doubts = field(default_factory=Doubts)
    faults: list[str] = field(default_factory=list)
    """A line for each resume that could not be restored."""


async def restore(places: Places, api: ApiSettings, notifier: NotifierSettings, backup: Path) -> Restored:
    """Put `backup` back. Raises `BackupFailed`, and no lead is there then."""
    restored = Restored(verified(backup))
    _check_stopped(api)
    with told("LEADS_DATA_DIR"):
        api.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with turn(api.data_dir / INIT_LOCK):  # `leads up` waits
            _clear(places)
            _check_empty(places, backup)
            try:
                await _put_back(restored, places, notifier, backup)
            except BaseException:
                _clear(places)
                raise
    return restored


async def _put_back(restored: Restored, places: Places, notifier: NotifierSettings, backup: Path) -> None:
    staged_leads, staged_notifier = _staged(places.leads_db), _staged(places.notifier_db)
    for file, staged in ((LEADS_DB, staged_leads), (NOTIFIER_DB, staged_notifier)):
        with told(staged):
            staged.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copyfile(backup / file, staged)
            staged.chmod(0o600)
    restored.doubts = await _bring_up_to_date(
        staged_leads, staged_notifier, f"restored from the backup {name_of(restored.manifest.taken_at)}", notifier
    )
    prepare_folder(places.resumes, setting="LEADS_BLOB_URL")
    with told(places.resumes):
        _put_resumes(restored, places.resumes, backup)
    sync_all(places.resumes, staged_leads.parent, staged_notifier.parent)
    _give_name(staged_notifier, places.notifier_db)
    _give_name(staged_leads, places.leads_db)
    for staged in (staged_notifier, staged_leads):
        remove(str(staged))


async def _bring_up_to_date(leads_db: Path, notifier_db: Path, why: str, settings: NotifierSettings) -> Doubts:
    """The newest schema, and doubts written down."""
    api = Database(f"sqlite:///{leads_db}")
    notifier = Database(f"sqlite:///{notifier_db}", setting="LEADS_NOTIFIER_DATABASE_URL")
    try:
        await api.migrate(API_MIGRATIONS)
        await notifier.migrate(NOTIFIER_MIGRATIONS)
        words = f"{why}: it may have been sent since"
        return await write_down(api, notifier, words, prospect_mails_per_day=settings.prospect_mails_per_day)
    finally:
        await notifier.close()
        await api.close()


def _put_resumes(restored: Restored, folder: Path, backup: Path) -> None:
    """One that is there already is left from a restore that was cut short."""
    for resume in resumes_of(backup / LEADS_DB):
        source, target = f"{backup}/{RESUMES}/{resume.id}", f"{folder}/{resume.id}"
        if not is_whole(resume, target):
            incoming = f"{folder}/{INCOMING}/{resume.id}"
            fault = copy(resume, source, incoming)
            if fault is not None:
                restored.faults.append(f"{source} {fault}, and is not restored")
                continue
            os.rename(incoming, target)  # noqa: PTH104 - text, as in `files`
        restored.resumes += 1


def _give_name(staged: Path, final: Path) -> None:
    """By `link`, which never replaces: whoever started Leads meanwhile has made a database of its own."""
    with told(final):
        try:
            os.link(staged, final)
        except FileExistsError:
            raise BackupFailed(f"{final} appeared meanwhile: stop Leads, move it away, and restore again") from None
        sync_folder(final.parent)


def _check_stopped(settings: ApiSettings) -> None:
    storage = urlsplit(settings.resolved_storage_url)
    ours = [authority(settings.host, port) for port in (settings.api_port, settings.notifier_port)]
    for place in dict.fromkeys([*ours, storage.netloc]):
        if _answers(urlsplit(f"//{place}").hostname, urlsplit(f"//{place}").port):
            raise BackupFailed(f"something answers at {place}: stop Leads, then restore")


def _answers(host: str | None, port: int | None) -> bool:
    try:
        socket.create_connection((host or "", port or 0), timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _check_empty(places: Places, backup: Path) -> None:
    """A restore overwrites nothing. A log beside a database that is gone would be played into the new one."""
    databases = [path for path in (places.leads_db, places.notifier_db, places.queue) if path is not None]
    files = [path.with_name(path.name + suffix) for path in databases for suffix in (*SQLITE_SUFFIXES, "-journal")]
    stranger = next((path for path in files if path.exists()), None) or _stranger(places.resumes, backup)
    if stranger is not None:
        raise BackupFailed(
            f"{stranger} is there already, and a restore overwrites nothing: move that data away, or set "
            "LEADS_DATA_DIR to another folder"
        )


def _stranger(folder: Path, backup: Path) -> Path | None:
    """A resume that is not of the backup, if there is one."""
    known = "SELECT 1 FROM leads WHERE resume_path = ?"
    with closing(open_for_reading(backup / LEADS_DB)) as leads, suppress(FileNotFoundError):
        stored = (one for one in folder.iterdir() if is_id(one.name))
        return next((one for one in stored if leads.execute(known, (one.name,)).fetchone() is None), None)
    return None


def _clear(places: Places) -> None:
    """Remove what a restore that was cut short left beside the databases, and a `notifier.db` that is the same file.

    Never `leads.db`: where that has its name, all was done.
    """
    staged = _staged(places.notifier_db)
    if not places.leads_db.exists() and _is_same(staged, places.notifier_db):
        places.notifier_db.unlink()
    for database in (places.leads_db, places.notifier_db):
        for suffix in SQLITE_SUFFIXES:
            remove(f"{_staged(database)}{suffix}")


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except FileNotFoundError:
        return False


def _staged(database: Path) -> Path:
    return database.with_name(database.name + STAGED)
