"""Rows as two databases are compared by them: plain values, in the order of their keys, a stretch at a time.

Both sort keys by their bytes, as Python does. So what is behind one key and up to another is the same part of both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, DateTime, Enum, MetaData, String, Table

from shared.database import as_utc

AT_ONCE = 1000
"""Rows of each database that are held at a time: a megabyte or two."""

Row = tuple[Any, ...]
"""Values in the order of the table's columns; the first one is the key."""


@dataclass(frozen=True)
class Stretch:
    """The rows of both databases behind one key and up to `through`, by their keys; None: neither has more."""

    source: dict[str, Row]
    target: dict[str, Row]
    through: str | None

    @property
    def new(self) -> list[str]:
        """Keys that the target has not."""
        return [key for key in self.source if key not in self.target]

    @property
    def changed(self) -> list[str]:
        """Keys of rows that are another in the target."""
        return [key for key, row in self.source.items() if key in self.target and self.target[key] != row]

    @property
    def gone(self) -> list[str]:
        """Keys that only the target has."""
        return [key for key in self.target if key not in self.source]


def stretch(source: Sequence[Row], target: Sequence[Row]) -> Stretch:
    """Of the next `AT_ONCE` rows of each: it ends where the first of the two was cut off."""
    cut_at = [rows[-1][0] for rows in (source, target) if len(rows) == AT_ONCE]
    through = min(cut_at, default=None)

    def kept(rows: Sequence[Row]) -> dict[str, Row]:
        return {row[0]: row for row in rows if through is None or row[0] <= through}

    return Stretch(kept(source), kept(target), through)


def plain(table: Table) -> Table:
    """The table with columns that hand on any value as it stands, also one that no room would know."""
    columns = [Column(one.name, String() if isinstance(one.type, Enum) else one.type) for one in table.columns]
    assert [one.name for one in table.primary_key.columns] == [columns[0].name], f"the key of {table} comes first"
    return Table(table.name, MetaData(), *columns)


def instants(table: Table) -> list[int]:
    """Which columns are moments in time."""
    return [index for index, column in enumerate(table.columns) if isinstance(column.type, DateTime)]


def compared(values: Iterable[Any]) -> Row:
    """The row as it is compared: the same moment is the same value, whatever zone it was told in."""
    return tuple(as_utc(one).astimezone(UTC) if isinstance(one, datetime) else one for one in values)
