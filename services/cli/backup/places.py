"""Where a deployment keeps what a backup holds, by the settings of its rooms; and how a failure is said."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.api.settings import ApiSettings
from services.notifier.settings import NotifierSettings
from services.storage.settings import StorageSettings
from shared.settings import CannotStart, SettingsError
from shared.sqlite import file_of, telling


class BackupFailed(Exception):  # noqa: N818
    """What was asked for was not done; the message is the one line to print."""


@dataclass(frozen=True)
class Places:
    """Files and folders by their settings. `queue` is the embedded bus's file, None with RabbitMQ."""

    leads_db: Path
    notifier_db: Path
    resumes: Path
    queue: Path | None

    @classmethod
    def of(cls, api: ApiSettings, notifier: NotifierSettings, storage: StorageSettings) -> "Places":
        """Raises `SettingsError` for a database that is no file of ours, and for a bucket: they have tools for it."""
        if storage.bucket_url:
            advice = "turn on its versioning, and see docs/backup.md"
            raise SettingsError(f"LEADS_BLOB_URL names a bucket, which is not copied: {advice}.")
        return cls(
            _database("LEADS_DATABASE_URL", api.resolved_database_url),
            _database("LEADS_NOTIFIER_DATABASE_URL", notifier.resolved_database_url),
            storage.blob_folder,
            file_of(api.resolved_broker_url),
        )


@contextmanager
def told(where: object) -> Iterator[None]:
    """Say in one line what is the matter with `where`. Raises `BackupFailed`."""
    try:
        yield
    except sqlite3.Error as error:
        raise BackupFailed(f"{where} {telling(error)}") from error
    except CannotStart as error:  # its words name the file already
        raise BackupFailed(str(error)) from error
    except OSError as error:
        raise BackupFailed(f"{error.filename2 or error.filename or where}: {error.strerror}") from error


def _database(setting: str, url: str) -> Path:
    path = file_of(url)
    if path is None:
        raise SettingsError(
            f"{setting} names no SQLite file: back up that database with its own tools (pg_dump, mariadb-dump), and "
            "the resumes after it; docs/backup.md says how."
        )
    return path
