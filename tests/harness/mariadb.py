"""A private MariaDB server for tests, from Debian's package, and how to make databases in it.

What it answers is on the disk. Its defaults are not what Leads would choose: tables that no transaction guards, texts
that are compared without regard to case, another time zone, another way to quote.
"""

from __future__ import annotations

import secrets
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pymysql
from sqlalchemy.engine import make_url

from shared.ids import new_id
from tests.harness.database_server import DatabaseServer

MISSING = "MariaDB is not installed here: install the package mariadb-server (`apt-get install mariadb-server`)."

USER = "leads"
_SUPERUSER = "root"
_DAEMON = "/usr/sbin/mariadbd"


def find_mariadb() -> bool:
    """Whether the server's programs are installed."""
    return Path(_DAEMON).is_file() and shutil.which("mariadb-install-db") is not None


class MariaServer(DatabaseServer):
    """One server. Raises `RuntimeError` with `MISSING` when the package is not installed."""

    _shutdown = signal.SIGTERM

    def __init__(self, options: Sequence[str] = ()) -> None:
        """`options` are those of mariadbd."""
        if not find_mariadb():
            raise RuntimeError(MISSING)
        super().__init__("MariaDB", "mysql")
        self._options = options
        self._passwords = {USER: secrets.token_hex(8), _SUPERUSER: ""}
        self._make(secrets.token_hex(8))

    @property
    def socket(self) -> Path:
        """Where it listens beside its port."""
        return self._folder / "mariadb.sock"

    def url(self, database: str, *, password: str | None = None, port: int | None = None) -> str:
        """`mysql+asyncmy://` with the user who owns the databases; another `password` makes a wrong login."""
        secret = password or self._passwords[USER]
        return f"mysql+asyncmy://{USER}:{secret}@127.0.0.1:{port or self.port}/{database}"

    def add_database(self, name: str | None = None) -> str:
        """The name of a new database, which is `USER`'s."""
        name = name or f"test_{new_id().replace('-', '')}"
        self.execute(f"CREATE DATABASE `{name}`")
        return name

    def drop_database(self, name: str) -> None:
        """With all that is in it."""
        self.execute(f"DROP DATABASE IF EXISTS `{name}`")

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as the server's superuser; its rows."""
        secret = self._passwords[_SUPERUSER]
        return query(f"mysql://{_SUPERUSER}:{secret}@127.0.0.1:{self.port}/mysql", statement)

    def end_sessions(self) -> int:
        """Those of Leads; how many."""
        sessions = self.execute(f"SELECT id FROM information_schema.processlist WHERE user = '{USER}'")
        for (session,) in sessions:
            with suppress(pymysql.err.OperationalError):  # it has gone by itself
                self.execute(f"KILL {session}")
        return len(sessions)

    def _make(self, secret: str) -> None:
        made = self._spawn(
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={self._data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        )
        if made.wait() != 0:
            raise RuntimeError(f"the databases could not be made:\n{self.output()[-3000:]}")
        self.start()
        self.execute(f"CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{self._passwords[USER]}'")
        self.execute(f"GRANT ALL ON `test\\_%`.* TO '{USER}'@'127.0.0.1'")
        self.execute(f"ALTER USER '{_SUPERUSER}'@'127.0.0.1' IDENTIFIED BY '{secret}'")
        self._passwords[_SUPERUSER] = secret

    def _command(self) -> Sequence[str]:
        return (
            _DAEMON,
            "--no-defaults",
            f"--datadir={self._data}",
            f"--socket={self.socket}",
            f"--pid-file={self._folder / 'mariadb.pid'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=64M",
            "--default-storage-engine=Aria",
            "--default-time-zone=+05:30",
            "--sql-mode=ANSI,NO_BACKSLASH_ESCAPES",
            *self._options,
        )

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except pymysql.err.OperationalError:
            return False
        return True


def query(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """The rows of a statement, by a connection of its own. Raises pymysql's errors. Its values stand for `?`."""
    with closing(_connected(url, autocommit=True)) as connection, connection.cursor() as cursor:
        cursor.execute(statement.replace("?", "%s") if values else statement, values or None)
        return list(cursor.fetchall())


@contextmanager
def holding(url: str, statement: str) -> Iterator[pymysql.Connection[Any]]:
    """Somebody else has carried it out and not committed it; in the end it is taken back."""
    with closing(_connected(url, autocommit=False)) as connection:
        with connection.cursor() as cursor:
            cursor.execute(statement)
        yield connection


def _connected(url: str, *, autocommit: bool) -> pymysql.Connection[Any]:
    where = make_url(url)
    return pymysql.connect(
        host=where.host or "",
        port=where.port or 0,
        user=where.username,
        password=where.password or "",
        database=where.database,
        charset="utf8mb4",
        autocommit=autocommit,
        connect_timeout=5,
    )
