"""What a backup is: a folder with two databases, the resumes, and a manifest that was written last.

    NAME/manifest.json  leads.db  notifier.db  resumes/ID

NAME is the time it was taken (UTC). Until all of it is on the disk it has another name, and no manifest.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from hashlib import file_digest
from pathlib import Path
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from services.api.settings import MIGRATIONS as API_MIGRATIONS
from services.cli.backup.places import BackupFailed, told
from services.notifier.settings import MIGRATIONS as NOTIFIER_MIGRATIONS
from shared.ids import is_id
from shared.schema import VERSION_TABLE, SchemaState, compare, too_new, why_no_version
from shared.sqlite import open_for_reading

LEADS_DB, NOTIFIER_DB, RESUMES, MANIFEST = "leads.db", "notifier.db", "resumes", "manifest.json"
MIGRATIONS: Mapping[str, Path] = {LEADS_DB: API_MIGRATIONS, NOTIFIER_DB: NOTIFIER_MIGRATIONS}
FORMAT = 1
AT_ONCE = 1000

_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z")


class Manifest(BaseModel):
    """What is in a backup. Sizes in bytes; databases by their file's name."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    leads_version: str
    taken_at: AwareDatetime
    schemas: dict[str, str]
    sha256: dict[str, str]
    leads: int
    resumes: int
    resumes_bytes: int
    resumes_missing: int
    """Those of leads in it that could not be had when it was taken."""


@dataclass(frozen=True)
class Resume:
    """A resume as its lead tells of it."""

    id: str
    size_bytes: int
    sha256: str


def name_of(taken_at: datetime) -> str:
    """The folder's name: these sort by time."""
    return f"{taken_at:%Y%m%dT%H%M%S.%fZ}"


def is_name(text: str) -> bool:
    """Whether a backup is called so: anything else in the folder is somebody else's."""
    return _NAME.fullmatch(text) is not None


def backups_in(folder: Path) -> list[Path]:
    """The whole ones, the newest first. Raises `OSError`."""
    named = (one for one in folder.iterdir() if is_name(one.name))
    return sorted((one for one in named if (one / MANIFEST).is_file()), reverse=True)


def verified(backup: Path) -> Manifest:
    """The manifest of a backup whose databases are as they were taken, and of a version that this Leads knows.

    Raises `BackupFailed`.
    """
    manifest = _read(backup)
    for file, versions in MIGRATIONS.items():
        with told(backup / file):
            if _sha256(backup / file) != manifest.sha256.get(file):
                raise BackupFailed(f"{backup / file} is not as it was taken (SHA-256): restore another backup")
        if compare(manifest.schemas.get(file), versions) in (SchemaState.UNKNOWN, SchemaState.EMPTY):
            raise BackupFailed(f"{backup / file} {too_new(manifest.schemas.get(file), versions)}")
    return manifest


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each database in `folder`. Raises `OSError`."""
    return {file: _sha256(folder / file) for file in MIGRATIONS}


def schemas(folder: Path) -> dict[str, str]:
    """The revision of each database in `folder`. Raises `sqlite3.Error`, and `BackupFailed` for one without."""
    return {file: _version(folder / file) for file in MIGRATIONS}


def count_leads(leads_db: Path) -> int:
    """How many there are. Raises `sqlite3.Error`."""
    return int(_first(leads_db, "SELECT count(*) FROM leads"))


def resumes_of(leads_db: Path) -> Iterator[Resume]:
    """The resumes that the leads in this database refer to. Raises `sqlite3.Error`."""
    connection = open_for_reading(leads_db)
    try:
        found = connection.execute("SELECT DISTINCT resume_path, resume_size_bytes, resume_sha256 FROM leads")
        while rows := found.fetchmany(AT_ONCE):
            yield from (Resume(*row) for row in rows if is_id(row[0]))
    finally:
        connection.close()


def _read(backup: Path) -> Manifest:
    try:
        manifest = Manifest.model_validate_json((backup / MANIFEST).read_bytes())
    except FileNotFoundError:
        hint = next((f" (did you mean {one}?)" for one in _backups_or_none(backup)), "")
        raise BackupFailed(f"{backup} is no whole backup: there is no {MANIFEST} in it{hint}") from None
    except OSError as error:
        raise BackupFailed(f"{backup / MANIFEST}: {error.strerror}") from None
    except ValidationError:
        raise BackupFailed(f"{backup / MANIFEST} cannot be read: restore another backup") from None
    if manifest.format > FORMAT:
        raise BackupFailed(f"{backup} was made by Leads {manifest.leads_version}: restore it with that version")
    return manifest


def _backups_or_none(folder: Path) -> list[Path]:
    try:
        return backups_in(folder)
    except OSError:
        return []


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return file_digest(opened, "sha256").hexdigest()


def _version(database: Path) -> str:
    with closing(open_for_reading(database)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if VERSION_TABLE not in tables:
        raise BackupFailed(f"{database.name} {'. '.join(why_no_version(tables))}")
    return str(_first(database, f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - a constant


def _first(database: Path, query: str) -> Any:
    connection = open_for_reading(database)
    try:
        return connection.execute(query).fetchone()[0]
    finally:
        connection.close()
