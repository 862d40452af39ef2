"""Traces are on or off, their collector is there or not: leads are taken, mails are sent, rooms stop in time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.harness.client import Client
from tests.harness.collector import AT_ONCE
from tests.harness.deployment import ROOMS, free_ports
from tests.harness.files import pdf
from tests.harness.inbox import wait_for
from tests.harness.sizes import House, with_sendgrid

pytestmark = pytest.mark.long

LEADS = 5
STOP_SECONDS = 5.0


@asynccontextmanager
async def nobody() -> AsyncIterator[int]:
    """A port that refuses."""
    yield free_ports(1)[0]


@asynccontextmanager
async def somebody_silent() -> AsyncIterator[int]:
    """A port that takes everything and never answers."""
    gone = asyncio.Event()

    async def listen(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await gone.wait()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        gone.set()


async def send_leads(house: House, count: int) -> None:
    async with Client(house.deployment.api_url) as client:
        for number in range(count):
            assert (await client.post_lead(f"lead{number}@example.com", pdf(3000))).status == 201
    await wait_for(house.inbox, 2 * count)


@pytest.mark.parametrize("collector", [nobody, somebody_silent])
async def test_a_collector_that_is_away_costs_one_line_and_no_lead(tmp_path, collector):
    async with collector() as port:
        settings = {"LEADS_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", **AT_ONCE}
        async with with_sendgrid(tmp_path, settings) as house:
            await send_leads(house, LEADS)
            for room in reversed(ROOMS):
                began_at = time.monotonic()
                assert await house.deployment.stop(room) == 0
                assert time.monotonic() - began_at < STOP_SECONDS
            for room in ROOMS:
                (said,) = [line for line in house.deployment.log(room) if line["level"] in {"warning", "error"}]
                assert said["setting"] == "LEADS_OTLP_ENDPOINT"


async def test_without_the_setting_no_room_loads_what_only_traces_need(tmp_path):
    """FastAPI by itself loads OpenTelemetry's API, which does nothing without an SDK."""
    async with with_sendgrid(tmp_path, {"PYTHONPROFILEIMPORTTIME": "1"}) as house:
        await send_leads(house, 1)
        for room in ROOMS:
            lines = house.deployment.log_file(room).read_text().splitlines()
            imported = {line.rpartition("|")[2].strip() for line in lines}
            assert "fastapi" in imported, "imports are listed"
            needless = ("opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf", "requests")
            assert not [name for name in imported if name.startswith(needless)], room
