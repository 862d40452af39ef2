"""The target: a room's tables in PostgreSQL, which no room starts on before they are whole.

Until then the table with the schema's version has another name, and a column that says which run fills it. Every write
looks there first: a run that another one has taken over from can write nothing any more, however late it wakes up.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Table, delete, insert, inspect, select, text
from sqlalchemy.orm import Session

from services.cli.migrate.rooms import CannotMigrate, Room, forgets, told
from services.cli.migrate.rows import AT_ONCE, Row, Stretch, compared, stretch
from services.cli.migrate.source import Source
from shared.database import Database
from shared.dialect import take_turns
from shared.ids import new_id
from shared.schema import UNFINISHED_TABLE, VERSION_TABLE, SchemaState, compare, newest_version, too_new
from shared.settings import CannotStart


@dataclass(frozen=True)
class _Found:
    """What is in the target before anything is done to it."""

    tables: frozenset[str]
    version: str | None
    has_rows: bool


class Target:
    """One room's tables, open. Every verb raises `CannotMigrate`."""

    def __init__(self, room: Room, database: Database) -> None:
        self._room = room
        self._database = database
        self._run = new_id()
        self.name = f"{database.name}, schema {room.schema}"

    async def is_unfinished(self, source: Source) -> bool:
        """Whether the run that left `source` for good has let no rooms in here yet. Refuses one that went elsewhere."""
        with told(self.name):
            found = await self._database.read(partial(_look, tables=()))
            if UNFINISHED_TABLE in found.tables:
                return True
            if VERSION_TABLE not in found.tables or not await self._has_firsts(source):
                raise CannotMigrate(f"{source.name} was moved, and not to {self.name}: name the database it went to")
        return False

    async def begin(self, source: Source) -> None:
        """Make it ready to be filled by this run, and by none before. What has rows, and is not being filled, stays."""
        with told(self.name):
            found = await self._database.read(partial(_look, tables=self._room.tables))
            if UNFINISHED_TABLE in found.tables:
                self._check_version(found.version)
                await self._database.write(self._take_over)
                await self._check_origin(source)
            elif found.has_rows:
                raise CannotMigrate(
                    f"{self.name} has rows already, and a move adds to nobody's: name an empty database, or "
                    f"DROP SCHEMA {self._room.schema} CASCADE if nobody needs them"
                )
            else:
                await self._make()
                await self._database.write(self._claim)

    async def bring_into_line(self, table: Table, rows: Sequence[Row], key: str | None) -> Stretch:
        """Make what is behind `key` the same as `rows`, the source's next ones; what the difference was.

        One transaction. A row that the source never had is left alone, and ends it all.
        """
        with told(f"{self.name}, {table.name}:"):
            return await self._database.write(partial(self._bring_into_line, table=table, rows=rows, key=key))

    async def after(self, table: Table, key: str | None) -> list[Row]:
        """The next `AT_ONCE` rows behind `key`; None means from the first."""
        with told(self.name):
            return await self._database.read(partial(_after, table=table, key=key))

    async def release(self) -> None:
        """It is whole: rooms may start on it. On the disk when this returns."""
        with told(f"{self.name} is whole, and not released yet, so finish again before Leads starts: it"):
            await self._database.write(self._release)

    async def _make(self) -> None:
        try:
            await self._database.migrate(self._room.migrations)
        except CannotStart as error:  # its words name the place already
            raise CannotMigrate(str(error).rstrip(".")) from error

    def _check_version(self, version: str | None) -> None:
        state = compare(version, self._room.migrations)
        if state is SchemaState.UNKNOWN:
            raise CannotMigrate(f"{self.name} {too_new(version, self._room.migrations)}")
        if state is not SchemaState.NEWEST:
            raise CannotMigrate(
                f"{self.name} was begun by an older Leads (schema {version}; this one has "
                f"{newest_version(self._room.migrations)}): DROP SCHEMA {self._room.schema} CASCADE, and migrate again"
            )

    async def _has_firsts(self, source: Source) -> bool:
        """Whether the first row of each table from which none goes is here, as after a move it is for ever."""
        for table in (one for one in self._room.tables if not forgets(one)):
            key = source.first(table)
            if key is not None and not await self._database.read(partial(_has, table=table, key=key)):
                return False
        return True

    async def _check_origin(self, source: Source) -> None:
        """A look at the first and the last row of each table from which none goes; each row is looked at later."""
        for table in (one for one in self._room.tables if not forgets(one)):
            for key in await self._database.read(partial(_ends, table=table)):
                if not source.has(table, key):
                    raise self._foreign(table, key)

    def _foreign(self, table: Table, key: str) -> CannotMigrate:
        return CannotMigrate(
            f"{self.name}, {table.name} has the row {key}, which the source has not: it is of another source, or of a "
            f"later state of this one. Look there; DROP SCHEMA {self._room.schema} CASCADE begins anew"
        )

    def _claim(self, session: Session) -> None:
        take_turns(session, [f"claim {self._room.schema}"])
        if not inspect(session.connection()).has_table(VERSION_TABLE):
            raise self._taken_over()
        session.execute(text(f"ALTER TABLE {VERSION_TABLE} RENAME TO {UNFINISHED_TABLE}"))
        session.execute(text(f"ALTER TABLE {UNFINISHED_TABLE} ADD COLUMN run text"))
        if _has_rows(session, self._room.tables):  # whoever wrote them may still have it open
            raise CannotMigrate(f"{self.name} is in use")
        self._take_over(session)

    def _take_over(self, session: Session) -> None:
        session.execute(text(f"UPDATE {UNFINISHED_TABLE} SET run = :run"), {"run": self._run})  # noqa: S608

    def _check_ours(self, session: Session) -> None:
        """Who takes over, or lets rooms in, waits for this transaction to end."""
        run = None
        if inspect(session.connection()).has_table(UNFINISHED_TABLE):
            run = session.execute(text(f"SELECT run FROM {UNFINISHED_TABLE} FOR UPDATE")).scalar()  # noqa: S608
        if run != self._run:
            raise self._taken_over()

    def _taken_over(self) -> CannotMigrate:
        return CannotMigrate(f"{self.name}: another `leads migrate` has taken over")

    def _bring_into_line(self, session: Session, table: Table, rows: Sequence[Row], key: str | None) -> Stretch:
        self._check_ours(session)
        found = stretch(rows, _after(session, table, key))
        if found.gone and not forgets(table):
            raise self._foreign(table, found.gone[0])
        if going := [*found.gone, *found.changed]:
            session.execute(delete(table).where(table.columns[0].in_(going)))
        if coming := [*found.new, *found.changed]:
            names = table.columns.keys()
            session.execute(insert(table), [dict(zip(names, found.source[one], strict=True)) for one in coming])
        return found

    def _release(self, session: Session) -> None:
        self._check_ours(session)
        session.execute(text(f"ALTER TABLE {UNFINISHED_TABLE} DROP COLUMN run"))
        session.execute(text(f"ALTER TABLE {UNFINISHED_TABLE} RENAME TO {VERSION_TABLE}"))


@asynccontextmanager
async def opened(room: Room, url: str, place: str) -> AsyncIterator[Target]:
    """The room's tables in the database of that URL; `place` is where the URL comes from. Connects to nothing yet."""
    database = Database(url, setting=place, schema=room.schema)
    try:
        yield Target(room, database)
    finally:
        await database.close()


def _look(session: Session, tables: Sequence[Table]) -> _Found:
    found = frozenset(inspect(session.connection()).get_table_names())
    versions = [one for one in (UNFINISHED_TABLE, VERSION_TABLE) if one in found]
    version = session.execute(text(f"SELECT version_num FROM {versions[0]}")).scalar() if versions else None  # noqa: S608
    return _Found(found, version, _has_rows(session, [one for one in tables if one.name in found]))


def _has_rows(session: Session, tables: Sequence[Table]) -> bool:
    return any(session.execute(select(one.columns[0]).limit(1)).first() for one in tables)


def _has(session: Session, table: Table, key: str) -> bool:
    return session.execute(select(table.columns[0]).where(table.columns[0] == key)).first() is not None


def _ends(session: Session, table: Table) -> list[str]:
    key = table.columns[0]
    ends = [session.execute(select(key).order_by(order).limit(1)).scalar() for order in (key, key.desc())]
    return [one for one in ends if one is not None]


def _after(session: Session, table: Table, key: str | None) -> list[Row]:
    wanted = select(*table.columns).order_by(table.columns[0]).limit(AT_ONCE)
    if key is not None:
        wanted = wanted.where(table.columns[0] > key)
    return [compared(row) for row in session.execute(wanted)]
