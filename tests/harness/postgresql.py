"""A private PostgreSQL server for tests: own port, folder and password, from Debian's package, torn down by pid.

Knows how to start, crash, pause and end one server, and how to make databases in it. Knows nothing of Leads' tables.
`fsync` stays on: what it answers is on the disk. Its locale is not the one of bytes, as people's servers are.
"""

import asyncio
import itertools
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from shared.ids import new_id
from shared.postgresql import SCHEMAS
from tests.harness.deployment import free_ports

MISSING = "PostgreSQL is not installed here: install the package postgresql (`apt-get install postgresql`)."

USER = "leads"
_SUPERUSER = "postgres"
_START_SECONDS = 60.0
_END_SECONDS = 15.0


def find_postgresql() -> Path | None:
    """The folder of the newest installed server's programs, or None."""
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return homes[-1].parent if homes else None


class PostgresServer:
    """One server of our own on 127.0.0.1. As root it runs as another user: it refuses to be root.

    Raises `RuntimeError` with `MISSING` when the package is not installed.
    """

    def __init__(self, settings: Sequence[str] = ()) -> None:
        """`settings` are lines of postgresql.conf."""
        home = find_postgresql()
        if home is None:
            raise RuntimeError(MISSING)
        self._home = home
        self._account = _account()
        self._folder = Path(tempfile.mkdtemp(prefix="leads-postgresql-"))  # pytest's folders are closed to others
        shutil.chown(self._folder, self._account.pw_uid, self._account.pw_gid)
        (self.port,) = free_ports(1)
        self._passwords = {name: secrets.token_hex(8) for name in (USER, _SUPERUSER)}
        self._postmaster: subprocess.Popen[bytes] | None = None
        self._make_cluster(settings)

    @property
    def running(self) -> bool:
        """Whether the server's first process is there."""
        return self._postmaster is not None and self._postmaster.poll() is None

    @property
    def pid(self) -> int:
        """Of its first process. Raises `RuntimeError` when it was not started."""
        if self._postmaster is None:
            raise RuntimeError("PostgreSQL was not started")
        return self._postmaster.pid

    def url(self, database: str, *, password: str | None = None, port: int | None = None) -> str:
        """`postgresql+asyncpg://` with the user who owns the database; another `password` makes a wrong login."""
        secret = password or self._passwords[USER]
        return f"postgresql+asyncpg://{USER}:{secret}@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Returns when the server takes connections, at once if it does. Raises `RuntimeError` with its output."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if not self.running:  # after a crash its memory is still in use for a moment, and it refuses to start
                self._postmaster = self._spawn("postgres", "-D", str(self._data))
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"PostgreSQL did not start:\n{self.output()[-3000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to all of its processes: it stops between two instructions, as when the power fails."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self._postmaster is not None:
            self._postmaster.wait(_END_SECONDS)

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nobody answers, as when a machine hangs. `resume` must follow."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """After `pause`."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Up again with the same port and data, after `kill`, or after a shutdown that ends all sessions."""
        if self._postmaster is not None and self.running:
            self._postmaster.send_signal(signal.SIGINT)  # "fast shutdown"
            self._postmaster.wait(_END_SECONDS)
        self.start()

    def stop(self) -> None:
        """Ends the server."""
        self.kill()

    def remove(self) -> None:
        """Ends the server and removes its folder."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

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

    def output(self) -> str:
        """What the server wrote."""
        return self._output.read_text(errors="replace")

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def _output(self) -> Path:
        return self._folder / "output.log"

    def _make_cluster(self, settings: Sequence[str]) -> None:
        password = self._folder / "password"
        password.write_text(self._passwords[_SUPERUSER])
        shutil.chown(password, self._account.pw_uid)
        self._output.touch()
        options = ("--username", _SUPERUSER, "--auth", "scram-sha-256", "--pwfile", str(password), "--no-sync")
        locale = ("--encoding", "UTF8", "--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en-US")
        if self._spawn("initdb", "-D", str(self._data), *options, *locale).wait() != 0:
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

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Nothing of ours is inherited but the search path."""
        is_root = os.geteuid() == 0
        with self._output.open("ab") as output:
            return subprocess.Popen(
                [str(self._home / program), *arguments],
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "HOME": str(self._folder)},
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._account.pw_uid if is_root else None,
                group=self._account.pw_gid if is_root else None,
                extra_groups=[] if is_root else None,
            )

    def _answers(self) -> bool:
        if not self.running:
            return False
        try:
            self.execute("SELECT 1")
        except (OSError, asyncpg.PostgresError):
            return False
        return True

    def _processes(self) -> list[psutil.Process]:
        """The first one and its children: each is a session of its own, so that no group holds them all."""
        if self._postmaster is None or not self.running:
            return []
        first = psutil.Process(self._postmaster.pid)
        return [first, *first.children(recursive=True)]

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)


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


def _account() -> pwd.struct_passwd:
    """Who runs the server: we ourselves, or as root the user that Debian's package makes for it."""
    return pwd.getpwnam(_SUPERUSER) if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
