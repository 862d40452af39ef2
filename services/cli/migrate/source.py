"""The source: a room's SQLite file. While rooms use it, it is only read; for the last step nobody else has it open."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime

from sqlalchemy import Table

from services.cli.migrate.rooms import LEFT_BEHIND, CannotMigrate, Room
from services.cli.migrate.rows import AT_ONCE, Row, compared, instants
from shared.schema import MOVED_TABLE, VERSION_TABLE, SchemaState, compare, newest_version, too_new
from shared.sqlite import TELLING, open_for_reading, primary_code, telling

LOCK_SECONDS = 2.0
"""For somebody who just looks in, as `leads doctor` does."""


class Source:
    """One file, open. Every verb raises `CannotMigrate`."""

    def __init__(self, room: Room, connection: sqlite3.Connection) -> None:
        self._room = room
        self._connection = connection
        self.name = f"{room.setting}: {room.file}"

    def check(self) -> None:
        """It is of the newest schema, and has no table or column that would be left behind."""
        tables = {name for (name,) in self._all("SELECT name FROM sqlite_master WHERE type = 'table'")}
        mark = VERSION_TABLE if VERSION_TABLE in tables else MOVED_TABLE  # with both, rooms would start on it
        noted = self._all(f"SELECT version_num FROM {mark}") if mark in tables else []  # noqa: S608 - constants
        version = noted[0][0] if noted else None
        match compare(version, self._room.migrations):
            case SchemaState.EMPTY:
                raise CannotMigrate(f"{self.name} has no version: it was not made by Leads")
            case SchemaState.UNKNOWN:
                raise CannotMigrate(f"{self.name} {too_new(version, self._room.migrations)}")
            case SchemaState.OLDER:
                newest = newest_version(self._room.migrations)
                raise CannotMigrate(
                    f"{self.name} is of the older schema {version}, and this Leads has {newest}: run `leads init` with "
                    "it first"
                )
        known = {mark, *(table.name for table in self._room.tables), *(LEFT_BEHIND & tables)}
        self._all_known("table", {name for name in tables if not name.startswith("sqlite_")}, known)
        for table in self._room.tables:
            found = {row[1] for row in self._all(f"PRAGMA table_info({table.name})")}
            self._all_known(f"column of {table.name}", found, set(table.columns.keys()))

    def check_sound(self) -> None:
        """Rows and indexes say the same: what is read by a damaged index may lack a row."""
        if self._all("PRAGMA integrity_check(1)")[0][0] != "ok":
            raise CannotMigrate(f"{self.name} {TELLING[sqlite3.SQLITE_CORRUPT]}")

    @property
    def is_left(self) -> bool:
        """Whether an earlier run has left it for good."""
        return bool(self._all("SELECT 1 FROM sqlite_master WHERE name = ?", MOVED_TABLE))

    def count(self, table: Table) -> int:
        """How many rows there are."""
        return int(self._all(f"SELECT count(*) FROM {table.name}")[0][0])  # noqa: S608 - tables of ours

    def first(self, table: Table) -> str | None:
        """The lowest key; None: there is no row."""
        key: str | None = self._all(f"SELECT min({table.columns[0].name}) FROM {table.name}")[0][0]  # noqa: S608
        return key

    def has(self, table: Table, key: str) -> bool:
        """Whether there is such a row."""
        return bool(self._all(f"SELECT 1 FROM {table.name} WHERE {table.columns[0].name} = ?", key))  # noqa: S608

    def after(self, table: Table, key: str | None) -> list[Row]:
        """The next `AT_ONCE` rows behind `key`; None means from the first."""
        names, moments = table.columns.keys(), instants(table)
        behind, values = ("", ()) if key is None else (f"WHERE {names[0]} > ?", (key,))
        query = f"SELECT {', '.join(names)} FROM {table.name} {behind} ORDER BY {names[0]} LIMIT {AT_ONCE}"  # noqa: S608
        return [self._row(table, row, moments) for row in self._all(query, *values)]

    def leave(self) -> None:
        """For good: no room starts on it any more. It ends the transaction that `held` began, and is on the disk."""
        if not self.is_left:
            self._all(f"ALTER TABLE {VERSION_TABLE} RENAME TO {MOVED_TABLE}")
        self._all("COMMIT")

    def _row(self, table: Table, row: Row, moments: list[int]) -> Row:
        values = list(row)
        for index in moments:
            if values[index] is not None:
                try:
                    (values[index],) = compared([datetime.fromisoformat(values[index])])
                except (TypeError, ValueError, OverflowError):  # OverflowError: in UTC it is in no year we can count
                    column = table.columns[index].name
                    raise CannotMigrate(f"{self.name}: {table.name} {row[0]}: {column} is no moment in time") from None
        return tuple(values)

    def _all(self, statement: str, *values: str) -> list[Row]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise CannotMigrate(f"{self.name} {telling(error)}") from error

    def _all_known(self, what: str, found: set[str], known: set[str]) -> None:
        if found != known:
            odd = min(found ^ known)
            raise CannotMigrate(
                f"{self.name} {'has' if odd in found else 'lacks'} the {what} `{odd}`, as no Leads made it: it was "
                "changed by hand"
            )


@contextmanager
def opened(room: Room) -> Iterator[Source]:
    """To read what is in it, while others use it. Raises `CannotMigrate`."""
    with closing(_connected(room)) as connection:
        yield Source(room, connection)


@contextmanager
def held(room: Room) -> Iterator[Source]:
    """For this process alone, in one transaction: whoever else has it open, or opens it, is locked out.

    A connection that does nothing is found, too: each has a shared lock on a file in WAL mode for as long as it is open
    (https://www.sqlite.org/pragma.html#pragma_locking_mode). Raises `CannotMigrate`.
    """
    with closing(_connected(room)) as connection:
        try:
            connection.execute("PRAGMA query_only = OFF")
            connection.execute(f"PRAGMA busy_timeout = {LOCK_SECONDS * 1000:.0f}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error as error:
            if primary_code(error) != sqlite3.SQLITE_BUSY:
                raise CannotMigrate(f"{room.setting}: {room.file} {telling(error)}") from error
            raise CannotMigrate(
                f"{room.setting}: {room.file} is in use: stop Leads, and whatever else has it open, then finish"
            ) from None
        yield Source(room, connection)


def _connected(room: Room) -> sqlite3.Connection:
    try:
        if not room.file.is_file():
            raise CannotMigrate(f"{room.setting}: there is no database {room.file} (`leads init` makes it)")
        connection = open_for_reading(room.file)
    except OSError as error:  # its folder is closed to us
        raise CannotMigrate(f"{room.setting}: {room.file} {TELLING[sqlite3.SQLITE_CANTOPEN]}") from error
    except sqlite3.Error as error:
        raise CannotMigrate(f"{room.setting}: {room.file} {telling(error)}") from error
    connection.isolation_level = None  # each look is a snapshot of its own, unless `held` begins a transaction
    return connection
