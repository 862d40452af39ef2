"""SQLite's files: which one a URL names, how one is looked into, and what its errors ask of the person who can act."""

import sqlite3
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

TELLING = {
    sqlite3.SQLITE_BUSY: "is kept locked by another program: close that program (a database browser, a backup); work "
    "then goes on by itself",
    sqlite3.SQLITE_FULL: "has no room left on its disk: free some space; work then goes on by itself",
    sqlite3.SQLITE_READONLY: "may only be read: let the user that runs Leads write to it and to its folder",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: check that it is a file and that the user that runs Leads may write to "
    "it and to its folder",
    sqlite3.SQLITE_NOTADB: "is not a file of Leads: name another path, or move that file away",
    sqlite3.SQLITE_CORRUPT: "is damaged: stop Leads, keep a copy of it, then mend it with `sqlite3 FILE .recover` or "
    "restore a backup",
    sqlite3.SQLITE_IOERR: "cannot be read or written: check its disk and the limit on file sizes",
}
"""What each primary result code (https://www.sqlite.org/rescode.html) asks of the person who can act."""

PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL})
"""Errors after which the connection is as good as before."""

LASTING = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})
"""Errors that stay until somebody acts: to try again by itself does not help."""


def primary_code(error: BaseException | None) -> int:
    """The primary result code of an error of `sqlite3`'s; 0 of any other."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def telling(error: BaseException | None) -> str:
    """What is wrong with the file and what to do: it ends a sentence that begins with the file."""
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    return TELLING.get(primary_code(error), f"could not be used ({name}): see whether another program changed it")


def file_of(url: str) -> Path | None:
    """The file that a `sqlite:///…` URL names; None for another kind of database."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # ValueError: what stands for a port is no number, as in a cluster's URL
        return None
    return Path(parsed.database) if parsed.drivername.startswith("sqlite") and parsed.database else None


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Not with `mode=ro`: the last reader of a WAL could not clear away then what the first has made beside the file.

    Makes no file that is not there.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=1.0)
    connection.execute("PRAGMA query_only = ON")
    return connection
