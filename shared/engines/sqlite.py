"""SQLite as the database of a room: its connections, each on a thread of its own.

It is opened so that a commit that returned is on the disk (WAL, `synchronous=FULL`) and a writer never finds at its
second statement that somebody else was first (`BEGIN IMMEDIATE`; https://www.sqlite.org/isolation.html).

Work runs from its first statement to its commit on such a thread: a trip to a thread costs more than most statements,
and a busy event loop in between two of them would keep everybody else locked out.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event

from shared.engines import turns
from shared.engines.turns import Engines, Turns, not_offered
from shared.settings import SettingsError

READERS = 4

Result = TypeVar("Result")


def open_sqlite(url: URL, setting: str) -> Engines:
    """The file's writer and readers. Makes its folder, for its owner alone. Raises `SettingsError`."""
    if not url.database or url.database == ":memory:":
        raise not_offered(setting)
    try:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingsError(f"{setting}: its folder cannot be made ({error.strerror}).") from None
    file = url.set(drivername="sqlite")
    return Engines(
        where=url.database,
        writers=Threads(file, 1, begin="BEGIN IMMEDIATE", pragmas=()),
        readers=Threads(file, READERS, begin="BEGIN", pragmas=("query_only=ON",)),
        is_file=True,
    )


class Threads(Turns):
    """Threads with a connection each, on which work on the database runs in one piece."""

    def __init__(self, url: URL, count: int, *, begin: str, pragmas: Sequence[str]) -> None:
        super().__init__(count)
        self._engine = create_engine(url, pool_size=count, max_overflow=0)
        _prepare(self._engine, begin=begin, pragmas=pragmas)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="database")

    def _start(self, work: Callable[[Connection], Result], *, at_leisure: bool) -> asyncio.Future[Result]:
        del at_leisure  # a file answers, or says that it cannot
        return asyncio.get_running_loop().run_in_executor(self._threads, self._perform, work)

    def _perform(self, work: Callable[[Connection], Result]) -> Result:
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except StopIteration as stop:  # which no future can carry: its caller would wait for ever
            raise RuntimeError("work on the database ended an iteration that it did not begin") from stop

    async def _end(self) -> None:
        await asyncio.to_thread(self._threads.shutdown)
        self._engine.dispose()


def _prepare(engine: Engine, *, begin: str, pragmas: Sequence[str]) -> None:
    always = (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        "journal_size_limit=67108864",
        "temp_store=MEMORY",
    )

    @event.listens_for(engine, "connect")
    def opened(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin on its own: `begun` below says how
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={int(turns.BUSY_TIMEOUT_SECONDS * 1000)}")
        for pragma in (*always, *pragmas):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
