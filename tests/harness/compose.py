"""A stack of docker-compose.yml for a test: its own project, ports and volumes, a scrubbed environment."""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import yaml

from tests.harness.deployment import ADMIN, PASSWORD, ROOT, Deployment, free_ports

COMMAND_SECONDS = 120.0
BUILD_SECONDS = 600.0
HEALTHY_SECONDS = 120.0
IMAGE = "leads:test"
ROOMS_AND_BROKER = ("api", "notifier", "rabbitmq", "storage")

MISSING = "the compose tests need a Docker engine that answers, and Compose (v2, or 1.29 as docker-compose)"


@cache
def find_compose() -> tuple[str, ...] | None:
    """The command of Compose, if there is one and an engine answers."""
    if shutil.which("docker") is None or _succeeds("docker", "version") is False:
        return None
    for command in (("docker", "compose"), ("docker-compose",)):
        if shutil.which(command[0]) and _succeeds(*command, "version"):
            return command
    return None


class Stack:
    """One project. `settings` are what a person would write into `.env`."""

    def __init__(self, settings: Mapping[str, str] | None = None, *, files: Sequence[Path] = ()) -> None:
        """`files` in place of docker-compose.yml, wherever they lie."""
        self.project = f"leads-test-{secrets.token_hex(4)}"
        self.port, self.ui_port, self.prometheus_port = free_ports(3)
        self.settings = dict(settings or {})
        named = [option for file in files for option in ("-f", str(file))]
        self._which = ["--project-directory", str(ROOT), *named] if files else []

    @property
    def api_url(self) -> str:
        """Where leads are sent."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """All that Compose sees: nothing of this machine's own settings."""
        passed_on = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ}
        return {
            **passed_on,
            "COMPOSE_PROJECT_NAME": self.project,
            "LEADS_IMAGE": IMAGE,
            "LEADS_API_PORT": str(self.port),
            "LEADS_RABBITMQ_UI_PORT": str(self.ui_port),
            "LEADS_PROMETHEUS_PORT": str(self.prometheus_port),
            "LEADS_ADMIN_PASSWORD": PASSWORD,
            "LEADS_INTAKE_RATE": "off",
            **self.settings,
        }

    async def compose(self, *arguments: str, seconds: float = COMMAND_SECONDS, check: bool = True) -> str:
        """What `docker compose ARGUMENTS` prints. Fails with it when the command does."""
        command = find_compose()
        assert command is not None, MISSING
        done = await _run([*command, *self._which, *arguments], self.environment, seconds)
        said = done.stdout.decode(errors="replace")
        assert done.returncode == 0 or not check, f"{' '.join(arguments)} ended with {done.returncode}:\n{said}"
        return said

    async def up(self, *services: str, scale: str | None = None) -> None:
        """Start what is not there, and start anew what has other settings by now."""
        await self.compose("up", "-d", *(["--scale", scale] if scale else []), *services)

    async def build(self) -> None:
        """The image, from nothing that the engine has not kept."""
        await self.compose("build", seconds=BUILD_SECONDS)

    async def down(self) -> None:
        """Take everything away, volumes too."""
        everything = ("--profile", "observability", "--profile", "tools")
        await self.compose(*everything, "down", "--volumes", "--remove-orphans", "--timeout", "10")

    async def containers(self, service: str) -> list[str]:
        """The ids of a service's containers, those that ended too."""
        return (await self.compose("ps", "-q", service)).split()

    async def inspect(self, service: str) -> list[dict[str, Any]]:
        """What the engine knows of each container of a service."""
        return [json.loads(await docker("inspect", id_))[0] for id_ in await self.containers(service)]

    async def healthy(self, *services: str) -> None:
        """Wait until every container of these (or of all that stay) is healthy."""
        deadline = time.monotonic() + HEALTHY_SECONDS
        for service in services or ROOMS_AND_BROKER:
            while set(states := await self.health(service)) != {"healthy"}:
                if time.monotonic() > deadline:
                    raise AssertionError(f"{service} is {states}:\n{await self.logs(service)}")
                await asyncio.sleep(0.5)

    async def health(self, service: str) -> list[str]:
        """Each container's health in the engine's words."""
        return [found["State"].get("Health", {}).get("Status", "none") for found in await self.inspect(service)]

    async def logs(self, service: str) -> str:
        """The end of what its containers wrote."""
        return await self.compose("logs", "--no-color", "--tail", "200", service)

    async def says(self, service: str, *words: str, seconds: float = 60.0) -> str:
        """The first line with all these words, as soon as the service writes it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in (await self.logs(service)).splitlines():
                if all(word in line for word in words):
                    return line
            await asyncio.sleep(0.5)
        raise AssertionError(f"{service} did not say {words}:\n{await self.logs(service)}")

    async def mails(self) -> int:
        """How many e-mails are in the mailbox."""
        return len((await self.compose("exec", "-T", "notifier", "ls", "/data/mailbox")).split())

    async def mails_arrive(self, count: int, *, seconds: float = 60.0) -> float:
        """Wait for that many e-mails; when the last of them was seen."""
        deadline = time.monotonic() + seconds
        while await self.mails() < count:
            assert time.monotonic() < deadline, f"only {await self.mails()} of {count} e-mails after {seconds} s"
            await asyncio.sleep(0.2)
        return time.monotonic()

    async def waiting(self) -> int:
        """Messages in all queues but the dead letters', in hand or not, as RabbitMQ itself counts them."""
        return sum(count for name, count in (await self.queues()).items() if not name.endswith(".dead"))

    async def queues(self) -> dict[str, int]:
        """Messages by queue."""
        listing = ("rabbitmqctl", "-q", "--formatter", "json", "list_queues", "-p", "leads", "name", "messages")
        said = await self.compose("exec", "-T", "rabbitmq", *listing)
        return {queue["name"]: queue["messages"] for queue in json.loads(said[said.index("[") :])}

    async def copy_out(self, folder: Path) -> Deployment:
        """Everything that the rooms keep, laid out as one deployment's folder. To be used at rest."""
        copy = Deployment(folder)
        copy.data.mkdir(parents=True)
        for service in ("api", "storage", "notifier"):
            container = (await self.containers(service))[0]
            archive = await _run(["docker", "cp", f"{container}:/data/.", "-"], self.environment, COMMAND_SECONDS)
            with tarfile.open(fileobj=BytesIO(archive.stdout)) as tar:
                tar.extractall(copy.data, filter="data")
        return copy

    def login(self) -> tuple[str, str]:
        """The staff login of a first start."""
        return ADMIN, PASSWORD


def merged_by_hand(folder: Path) -> list[Path]:
    """docker-compose.yml and docker-compose.scale.yml; for Compose 1.29, which knows no `!reset`, copies of them.

    In these, what the second resets is missing in the first. Compose still does the merging.
    """
    files = [ROOT / "docker-compose.yml", ROOT / "docker-compose.scale.yml"]
    if find_compose() != ("docker-compose",):
        return files
    first, second = (yaml.load(file.read_text(), _Loader) for file in files)
    for name, service in second["services"].items():
        for key in [key for key, value in service.items() if value is _RESET]:
            del service[key], first["services"][name][key]
    copies = [folder / file.name for file in files]
    for copy, content in zip(copies, (first, second), strict=True):
        copy.write_text(yaml.safe_dump(content))
    return copies


class _Loader(yaml.SafeLoader):
    """Knows `!reset`."""


_RESET = object()
_Loader.add_constructor("!reset", lambda _loader, _node: _RESET)


async def docker(*arguments: str, check: bool = True) -> str:
    """What `docker ARGUMENTS` prints."""
    done = await _run(["docker", *arguments], dict(os.environ), COMMAND_SECONDS)
    assert done.returncode == 0 or not check, done.stdout.decode(errors="replace")
    return done.stdout.decode(errors="replace")


async def _run(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> CompletedProcess[bytes]:
    is_archive = command[-1] == "-"
    return await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=ROOT,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if is_archive else subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
