"""A private PostgreSQL server for tests, from Debian's package, and how to make databases in it.

`fsync` stays on: what it answers is on the disk. Its locale is not the one of bytes, as people's servers are.
"""

import asyncio
import itertools
import re
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from shared.ids import new_id
from shared.postgresql import SCHEMAS
from tests.harness.database_server import DatabaseServer

MISSING = "PostgreSQL is not installed here: install the package postgresql (`apt-get install postgresql`)."

USER = "leads"
_SUPERUSER = "postgres"


def find_postgresql() -> Path | None:
    """The folder of the newest installed server's programs, or None."""
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return homes[-1].parent if homes else None


class PostgresServer(DatabaseServer):
    """A cluster of one server. Raises `RuntimeError` with `MISSING` when the package is not installed."""

    _shutdown = signal.SIGINT  # "fast"

    def __init__(self, settings: Sequence[str] = ()) -> None:
        """`settings` are lines of postgresql.conf."""
        home = find_postgresql()
        if home is None:
            raise RuntimeError(MISSING)
        super().__init__("PostgreSQL", _SUPERUSER)
        self._home = home
        self._passwords = {name: secrets.token_hex(8) for name in (USER, _SUPERUSER)}
        self._make_cluster(settings)

    def url(self, database: str, *, password: str | None = None, port: int | None = None) -> str:
        """`postgresql+asyncpg://` with the user who owns the database; another `password` makes a wrong login."""
        secret = password or self._passwords[USER]
        return f"postgresql+asyncpg://{USER}:{secret}@127.0.0.1:{port or self.port}/{database}"

    def add_database(self, name: str | None = None) -> str:
        """The name of a new database, which `USER` owns."""
        name = name or f"test_{new_id().replace('-', '')}"
        self.execute(f'CREATE DATABASE "{name}" OWNER {USER}')
        return name

    def drop_database(self, name: str) -> None:
        """With all that is in it, whoever is connected."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, statement: str, database: str = _SUPERUSER) -> list[tuple[Any, ...]]:
        """Run a statement as the server's superuser; its rows."""
        secret = self._passwords[_SUPERUSER]
        return query(f"postgresql://{_SUPERUSER}:{secret}@127.0.0.1:{self.port}/{database}", statement)

    def end_sessions(self) -> int:
        """Those of Leads; how many."""
        ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'leads %'"
        return len(self.execute(ended))

    def _make_cluster(self, settings: Sequence[str]) -> None:
        password = self._folder / "password"
        password.write_text(self._passwords[_SUPERUSER])
        shutil.chown(password, self._account.pw_uid)
        options = ("--username", _SUPERUSER, "--auth", "scram-sha-256", "--pwfile", str(password), "--no-sync")
        locale = ("--encoding", "UTF8", "--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en-US")
        if self._spawn(str(self._home / "initdb"), "-D", str(self._data), *options, *locale).wait() != 0:
            raise RuntimeError(f"the cluster could not be made:\n{self.output()[-3000:]}")
        lines = [
            "listen_addresses = '127.0.0.1'",
            f"port = {self.port}",
            f"unix_socket_directories = '{self._folder}'",
            "shared_buffers = 64MB",
            *settings,
        ]
        with (self._data / "postgresql.conf").open("a") as file:
            file.write("".join(f"{line}\n" for line in lines))
        self.start()
        self.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{self._passwords[USER]}'")

    def _command(self) -> Sequence[str]:
        return str(self._home / "postgres"), "-D", str(self._data)

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except (OSError, asyncpg.PostgresError):
            return False
        return True


def query(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows of a statement, by a connection of its own, from wherever it is called. Raises asyncpg's errors.

    Its values stand for `?`. The tables of both rooms are found without their schemas.
    """
    numbers = itertools.count(1)
    statement = re.sub(r"\?", lambda _: f"${next(numbers)}", statement) if values else statement
    with ThreadPoolExecutor(1) as thread:  # a loop may be running in ours
        return thread.submit(asyncio.run, _query(url, statement, values)).result()


async def _query(url: str, statement: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    found_in = {"search_path": ",".join([*SCHEMAS.values(), "public"])}
    connection = await asyncpg.connect(url.replace("+asyncpg", "", 1), timeout=5, server_settings=found_in)
    try:
        return [tuple(row) for row in await connection.fetch(statement, *values)]
    finally:
        await connection.close()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of somebody else."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        yield connection
    finally:
        await connection.close()
