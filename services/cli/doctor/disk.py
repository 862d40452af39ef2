"""The folders that Leads keeps things in: that they can be written to, on what disk, with how much room."""

import os
from collections.abc import Iterator
from pathlib import Path

from services.cli.doctor.patient import Patient
from services.cli.doctor.report import Finding, failed, ok, skipped, warning
from services.notifier.settings import SENDGRID
from services.notifier.transport import folder_of
from shared.settings import SettingsError

ROOMY = 4
"""Below this many times what the storage wants to stay free, it is time to make room."""

MIB = 1024 * 1024

_FORGETFUL = {"tmpfs": "memory: all is gone after a restart", "ramfs": "memory: all is gone after a restart"}
_REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "glusterfs", "ceph"})


def check_disk(patient: Patient) -> list[Finding]:
    """Every folder, told by the setting that names it."""
    if patient.any_settings is None:
        return [skipped("disk", "the settings come first")]
    try:
        folders = dict(_folders(patient))
    except SettingsError as error:
        return [failed("disk", str(error), "Correct LEADS_BLOB_URL.")]
    return [finding for setting, folder in folders.items() for finding in _look_at(setting, folder, patient)]


def _folders(patient: Patient) -> Iterator[tuple[str, Path]]:
    assert patient.any_settings is not None
    yield "LEADS_DATA_DIR", patient.any_settings.data_dir
    if patient.storage is not None and patient.storage.blob_url and not patient.storage.bucket_url:
        yield "LEADS_BLOB_URL", patient.storage.blob_folder
    if patient.notifier is not None and patient.notifier.mail_url not in ("", SENDGRID):
        folder = folder_of(patient.notifier.mail_url)
        if folder is not None:
            yield "LEADS_MAIL_URL", folder


def _look_at(setting: str, folder: Path, patient: Patient) -> Iterator[Finding]:
    there = _nearest(folder)
    if there != folder and not there.is_dir():
        yield failed("disk", f"{setting}: {there} is in the way of {folder}: it is no folder.", f"Correct {setting}.")
        return
    if not os.access(there, os.W_OK | os.X_OK):
        yield failed(
            "disk",
            f"{setting}: {there} cannot be written to.",
            f"Let the user that runs Leads own it (chown), mount it writable, or set {setting} to another folder.",
        )
        return
    kind = _file_system(there)
    if kind in _FORGETFUL:
        yield warning("disk", f"{setting}: {folder} lies in {_FORGETFUL[kind]}.", f"Set {setting} to a real disk.")
    if kind in _REMOTE:
        yield warning(
            "disk",
            f"{setting}: {folder} lies on a network drive ({kind}), where SQLite cannot keep its promises.",
            f"Set {setting} to a local disk (https://www.sqlite.org/wal.html).",
        )
    yield _room_left(setting, there, patient)


def _room_left(setting: str, folder: Path, patient: Patient) -> Finding:
    wanted_bytes = patient.storage.storage_min_free_bytes if patient.storage is not None else 0
    disk = os.statvfs(folder)
    free_bytes = disk.f_bavail * disk.f_frsize
    told = f"{setting}: {free_bytes // MIB} MiB are free at {folder}"
    if free_bytes < max(wanted_bytes, MIB):
        return failed(
            "disk",
            f"{told}, {wanted_bytes // MIB} MiB are wanted (LEADS_STORAGE_MIN_FREE_BYTES): leads are refused with 503.",
            f"Free some space, or set {setting} to a larger disk.",
        )
    if free_bytes < ROOMY * wanted_bytes:
        return warning("disk", f"{told}: below {wanted_bytes // MIB} MiB leads are refused.", "Make room soon.")
    return ok("disk", told)


def _nearest(folder: Path) -> Path:
    """The folder itself, or of those above it the first that is there: it will be made in that one."""
    folder = folder.absolute()
    return next(level for level in (folder, *folder.parents) if os.path.lexists(level))


def _file_system(folder: Path) -> str:
    """Its type, by the longest mount point above it (proc(5), mountinfo); nothing where the kernel does not tell."""
    found = ""
    longest = -1
    path = str(folder.resolve())
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= longest:
            found, longest = after.split()[0], len(point)
    return found
