"""The move: each room's rows from its source into its target, as often as wanted, and once for good.

A run makes the target what the source is, stretch by stretch. While rooms write to the source, a stretch is as it was
when it was read, and the next run brings what came since. The last run has the sources for itself: what it has copied
stays true. It reads all of both once more and compares every row; only when all are equal, no room starts on the source
any more, and then rooms may start on the target. Whatever ends it before has changed nothing in the source.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from sqlalchemy import Table

from services.cli.migrate import source as sources
from services.cli.migrate import target as targets
from services.cli.migrate.rooms import Room
from services.cli.migrate.rows import Stretch, stretch
from services.cli.migrate.source import Source
from services.cli.migrate.target import Target
from services.cli.progress import progress

NAMED = 20
"""Differences of a table that are named. All are counted."""

Place = tuple[str, str]
"""A URL, and what to name as where it comes from."""


@dataclass
class Copied:
    """What one run did to one table."""

    table: str
    rows: int = 0
    new: int = 0
    changed: int = 0
    gone: int = 0


@dataclass
class Compared:
    """One table in both databases: how many rows each has, and SHA-256 over all their values in the order of keys."""

    table: str
    rows: int = 0
    target_rows: int = 0
    sha256: str = ""
    target_sha256: str = ""
    differing: int = 0
    differences: list[str] = field(default_factory=list)
    """A line for each of the first `NAMED`."""

    @property
    def is_equal(self) -> bool:
        """Whether every row of one is in the other, with the same values."""
        return (self.rows, self.sha256, self.differing) == (self.target_rows, self.target_sha256, 0)


@dataclass
class Finished:
    """What the last run did. Nothing is finished unless `is_done`."""

    copied: list[Copied] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether all was equal, so that the rooms may start on the target."""
        return all(one.is_equal for one in self.compared)


async def left(rooms: Sequence[Room], place: Place) -> list[Room]:
    """Those that are not moved for good. Raises `CannotMigrate` for one that cannot be moved."""
    staying = []
    for room in rooms:
        with sources.opened(room) as source:
            source.check()
            if not source.is_left or await _is_unfinished(room, place, source):
                staying.append(room)
    return staying


async def copy(rooms: Sequence[Room], place: Place) -> list[Copied]:
    """Bring over what is new or changed. Raises `CannotMigrate`; what was brought over by then stays."""
    copied = []
    for room in rooms:
        async with targets.opened(room, *place) as target:
            with sources.opened(room) as source:
                await target.begin(source)
                copied += [await _copy(source, target, table) for table in room.tables]
    return copied


async def finish(rooms: Sequence[Room], place: Place) -> Finished:
    """Bring over the rest, compare every row, and change over if all are equal.

    Raises `CannotMigrate`: what was not changed over by then can be, by another run.
    """
    done = Finished()
    async with AsyncExitStack() as stack:
        pairs = []
        for room in rooms:
            source = stack.enter_context(sources.held(room))
            pairs.append(_Pair(room, source, await stack.enter_async_context(targets.opened(room, *place))))
        for pair in pairs:
            done.copied += await _bring_the_rest(pair)
        for pair in pairs:
            done.compared += [await _compare(pair.source, pair.target, table) for table in pair.room.tables]
        if done.is_done:
            for pair in pairs:
                await _change_over(pair)
    return done


class _Pair(NamedTuple):
    room: Room
    source: Source
    target: Target


async def _bring_the_rest(pair: _Pair) -> list[Copied]:
    pair.source.check_sound()
    pair.source.check()
    await pair.target.begin(pair.source)
    return [await _copy(pair.source, pair.target, table) for table in pair.room.tables]


async def _change_over(pair: _Pair) -> None:
    """In this order, so that at no moment rooms could start on both. Killed in between, on neither: finish again."""
    pair.source.leave()
    await pair.target.release()


async def _is_unfinished(room: Room, place: Place, source: Source) -> bool:
    async with targets.opened(room, *place) as target:
        return await target.is_unfinished(source)


async def _copy(source: Source, target: Target, table: Table) -> Copied:
    done = Copied(table.name)
    key: str | None = None
    with progress(f"{table.name}, copied", source.count(table)) as advance:
        while True:
            found = await target.bring_into_line(table, source.after(table, key), key)
            done.rows += len(found.source)
            done.new += len(found.new)
            done.changed += len(found.changed)
            done.gone += len(found.gone)
            advance(len(found.source))
            if found.through is None:
                return done
            key = found.through


async def _compare(source: Source, target: Target, table: Table) -> Compared:
    done = Compared(table.name)
    ours, theirs = sha256(), sha256()
    key: str | None = None
    with progress(f"{table.name}, compared", source.count(table)) as advance:
        while True:
            found = stretch(source.after(table, key), await target.after(table, key))
            done.rows += len(found.source)
            done.target_rows += len(found.target)
            for digest, rows in ((ours, found.source), (theirs, found.target)):
                for row in rows.values():
                    digest.update(repr(row).encode())
            differing = [*found.new, *found.changed, *found.gone]
            done.differing += len(differing)
            room_left = NAMED - len(done.differences)
            done.differences += [_difference(table, found, one) for one in differing[:room_left]]
            advance(len(found.source))
            if found.through is None:
                done.sha256, done.target_sha256 = ours.hexdigest(), theirs.hexdigest()
                return done
            key = found.through


def _difference(table: Table, found: Stretch, key: str) -> str:
    """Names columns, never what is in them."""
    if key not in found.target:
        return f"{table.name} {key}: is missing in PostgreSQL"
    if key not in found.source:
        return f"{table.name} {key}: is in PostgreSQL alone"
    pairs = zip(table.columns.keys(), found.source[key], found.target[key], strict=True)
    return f"{table.name} {key}: differs in {', '.join(name for name, one, other in pairs if one != other)}"
