"""A private Prometheus for tests and drawings: Debian's program, with the configuration that is shipped.

Only where the services are and how often they are asked is its own; rules, jobs and relabelling are those of
`observability/prometheus`.
"""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.harness.deployment import ROOT, Deployment, free_ports
from tests.harness.rabbitmq import RabbitNode

MISSING = "Prometheus is not installed here: install the package prometheus (`apt-get install prometheus`)."
CONFIGURATION = ROOT / "observability" / "prometheus" / "prometheus.yml"
START_SECONDS = 20.0
END_SECONDS = 10.0


def find_prometheus() -> bool:
    """Whether the server and its promtool are here."""
    return all(shutil.which(program) for program in ("prometheus", "promtool"))


class Prometheus:
    """What a running Prometheus has seen."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The vector of now. Raises `AssertionError` with Prometheus' own words for what it cannot evaluate."""
        data = await self._ask("query", {"query": expression})
        assert data["resultType"] == "vector", expression
        return list(data["result"])

    async def query_range(
        self, expression: str, *, start: float, end: float, step_seconds: float
    ) -> list[dict[str, Any]]:
        """The series between two instants. Raises as `query` does."""
        asked = {"query": expression, "start": str(start), "end": str(end), "step": str(step_seconds)}
        return list((await self._ask("query_range", asked))["result"])

    async def series(self, selector: str) -> list[dict[str, str]]:
        """The label sets of all series that a selector finds."""
        found: list[dict[str, str]] = await self._ask("series", {"match[]": selector})
        return found

    async def _ask(self, what: str, parameters: Mapping[str, str]) -> Any:
        async with self._session.get(f"{self._url}/api/v1/{what}", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]


def targets_of(deployment: Deployment, node: RabbitNode) -> dict[str, str]:
    """Where each scrape job of the shipped configuration finds its service."""
    rooms = {f"leads-{room}": f"127.0.0.1:{port}" for room, port in deployment.ports.items()}
    return {**rooms, **dict.fromkeys(("rabbitmq", "rabbitmq-queues"), f"127.0.0.1:{node.metrics_port}")}


@asynccontextmanager
async def prometheus(
    folder: Path, targets: Mapping[str, str], *, interval_seconds: int = 1
) -> AsyncIterator[Prometheus]:
    """A Prometheus with all its files in `folder`, ended afterwards. `targets` has an address for every job."""
    (port,) = free_ports(1)
    (folder / "prometheus.yml").write_text(_configuration(targets, interval_seconds))
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as session:
            await _wait_until_ready(session, f"http://127.0.0.1:{port}/-/ready", folder)
            yield Prometheus(f"http://127.0.0.1:{port}", session)
    finally:
        process.terminate()
        async with asyncio.timeout(END_SECONDS):
            await process.wait()


def _configuration(targets: Mapping[str, str], interval_seconds: int) -> str:
    shipped = yaml.safe_load(CONFIGURATION.read_text())
    interval = f"{interval_seconds}s"
    shipped["global"] = {"scrape_interval": interval, "evaluation_interval": interval}
    shipped["rule_files"] = [str(CONFIGURATION.parent / file) for file in shipped["rule_files"]]
    for job in shipped["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    text: str = yaml.safe_dump(shipped)
    return text


async def _wait_until_ready(session: aiohttp.ClientSession, url: str, folder: Path) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _answers(session, url):
                await asyncio.sleep(0.1)
    except TimeoutError:
        said = (folder / "prometheus.log").read_text()[-2000:]
        raise AssertionError(f"Prometheus did not start:\n{said}") from None


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False
