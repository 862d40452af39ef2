"""A deployment of Leads for a test: real processes, own ports and folder, a scrubbed environment."""

import asyncio
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from services.api import setup
from services.api.settings import ApiSettings
from services.cli.pinning import settle

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("storage", "notifier", "api")
ADMIN = "admin@leads.example"
PASSWORD = "correct-horse-battery-staple"
READY_SECONDS = 30.0
STOP_SECONDS = 12.0
PORTS = range(12_000, 32_000)
"""Below Linux's ephemeral ports (ip_local_port_range): while a room is down, a client's connection could sit on its."""


class Deployment:
    """Three rooms under one folder. `settings` are environment variables beside the ones every test needs.

    `processors` are those that a room runs on; on any where it is not named.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        processors: Mapping[str, Collection[int]] | None = None,
    ) -> None:
        self.processors = processors or {}
        self.folder = folder
        self.data = folder / "data"
        self.ports = dict(zip(ROOMS, free_ports(len(ROOMS)), strict=True))
        self.door = "api"
        """Whose port leads are sent to: of `ports`, which a front may join."""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "LEADS_DATA_DIR": str(self.data),
            "LEADS_JWT_SECRET": secrets.token_urlsafe(48),
            "LEADS_SERVICE_SECRET": secrets.token_urlsafe(48),
            "LEADS_ADMIN_EMAIL": ADMIN,
            "LEADS_ADMIN_PASSWORD": PASSWORD,
            "LEADS_INTAKE_RATE": "off",
            "LEADS_LOGIN_RATE": "off",
            "LEADS_LOG_FORMAT": "json",
            **{f"LEADS_{room.upper()}_PORT": str(port) for room, port in self.ports.items()},
            **(settings or {}),
        }

    @property
    def api_url(self) -> str:
        """Where leads are sent."""
        return self.url(self.door)

    def url(self, name: str) -> str:
        """Where this one of `ports` answers."""
        return f"http://127.0.0.1:{self.ports[name]}"

    @property
    def mailbox(self) -> Path:
        """Where e-mails land unless they are sent."""
        return self.data / "mailbox"

    @property
    def resumes(self) -> Path:
        """Where blobs lie."""
        return self.data / "resumes"

    @property
    def leads_db(self) -> Path | str:
        """The api's database: a file, or the URL of a server."""
        return self._database("LEADS_DATABASE_URL", "leads.db")

    @property
    def notifier_db(self) -> Path | str:
        """The notifier's database, likewise."""
        return self._database("LEADS_NOTIFIER_DATABASE_URL", "notifier.db")

    def settings(self) -> ApiSettings:
        """What preparing the database needs of the api's settings."""
        url = self.environment.get("LEADS_DATABASE_URL", "")
        return ApiSettings(data_dir=self.data, database_url=url, admin_email=ADMIN, admin_password=SecretStr(PASSWORD))

    async def start(self) -> None:
        """Prepare the database and the admin, start all rooms, wait until they are ready."""
        self.data.mkdir(parents=True, exist_ok=True)
        await setup.prepare(self.settings())
        for room in ROOMS:
            self.launch(room)
        for room in ROOMS:
            await self.ready(room)
        self.settle()

    def settle(self) -> None:
        """Have the rooms that run go on where they are to."""
        for room, process in self.processes.items():
            if room in self.processors:
                settle(process.pid, self.processors[room])

    def add(self, room: str) -> str:
        """A place for one more process of `room`; its name (`api-2`) is what it is launched, asked and killed by."""
        number = 1 + sum(one.partition("-")[0] == room for one in self.ports)
        name = f"{room}-{number}"
        (self.ports[name],) = free_ports(1)
        return name

    def launch(
        self, room: str, command: Sequence[str] | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        """Start one room, by another command or with other settings if need be. `<folder>/<room>.log` has its log."""
        kind = room.partition("-")[0]
        own = {} if kind == room else {f"LEADS_{kind.upper()}_PORT": str(self.ports[room])}
        with self.log_file(room).open("ab") as log:
            self.processes[room] = subprocess.Popen(
                command or [sys.executable, "-m", f"services.{kind}"],
                cwd=ROOT,
                env={**self.environment, **own, **(settings or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    async def ready(self, room: str) -> None:
        """Wait for the room's /readyz."""
        url = f"http://127.0.0.1:{self.ports[room]}/readyz"
        deadline = time.monotonic() + READY_SECONDS
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline:
                if self.processes[room].poll() is not None:
                    break
                try:
                    async with session.get(url) as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)
        raise AssertionError(f"{room} did not become ready:\n{self.log_file(room).read_text()[-4000:]}")

    def kill(self, room: str) -> None:
        """kill -9."""
        self.processes[room].kill()
        self.processes[room].wait()

    async def stop(self, room: str) -> int:
        """SIGTERM; returns the exit status."""
        process = self.processes[room]
        process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"{room} did not stop within {STOP_SECONDS} s") from None

    async def restart(self, room: str) -> None:
        """Start the room again and wait until it is ready."""
        self.launch(room)
        await self.ready(room)
        self.settle()

    def end(self) -> None:
        """Leave nothing running, whatever happened."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def log_file(self, room: str) -> Path:
        """What the room wrote."""
        return self.folder / f"{room}.log"

    def log(self, room: str) -> list[dict[str, Any]]:
        """The room's log records. Fails if a line is not one JSON object."""
        return [json.loads(line) for line in self.log_file(room).read_text().splitlines()]

    def _database(self, setting: str, name: str) -> Path | str:
        url = self.environment.get(setting, "")
        return url if url and not url.startswith("sqlite") else self.data / name


@asynccontextmanager
async def deployed(
    folder: Path,
    settings: Mapping[str, str] | None = None,
    processors: Mapping[str, Collection[int]] | None = None,
) -> AsyncIterator[Deployment]:
    """A running deployment, ended afterwards."""
    deployment = Deployment(folder, settings, processors)
    try:
        await deployment.start()
        yield deployment
    finally:
        deployment.end()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now, and that no outgoing connection is given by the kernel."""
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            one = socket.socket()
            try:
                one.bind(("127.0.0.1", random.choice(PORTS)))
            except OSError:
                one.close()
            else:
                sockets.append(one)
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
