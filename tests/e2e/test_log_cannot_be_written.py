"""The disk of the log is full: leads are taken, e-mails go out, and what could not be said is counted."""

import asyncio
import json
import re

import aiohttp
import pytest

from tests.harness.client import Client
from tests.harness.deployment import ROOMS, Deployment, deployed
from tests.harness.files import pdf
from tests.harness.inbox import mailbox_inbox
from tests.harness.missing import cannot_run
from tests.harness.tiny_disk import filled, tiny_disks

LEADS = 20
MAILS_SECONDS = 10.0


async def post(deployment: Deployment, name: str) -> None:
    """One after another: each room has to say something for each, more than what its log's last block has room for."""
    async with Client(deployment.api_url) as client:
        for number in range(LEADS):
            answer = await client.post_lead(f"{name}-{number}@example.com", pdf(2000))
            assert answer.status == 201
        refused = await client.post_lead(f"{name}-0@example.com", pdf(2000))
        assert refused.status == 400


async def records_lost(deployment: Deployment, room: str) -> float:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{deployment.ports[room]}/metrics") as answer,
    ):
        found = re.search(r"^leads_log_records_lost_total (\S+)$", await answer.text(), re.MULTILINE)
        assert found
        return float(found[1])


async def mailed(deployment: Deployment, count: int) -> None:
    inbox = mailbox_inbox(deployment.mailbox)
    async with asyncio.timeout(MAILS_SECONDS):
        while len(inbox()) < count:
            await asyncio.sleep(0.1)


@pytest.mark.long
async def test_what_cannot_be_logged_stops_nothing(tmp_path):
    logs = tmp_path / "logs"
    with tiny_disks([logs]) as trouble:
        if trouble:
            cannot_run(trouble)
        for room in ROOMS:
            (tmp_path / f"{room}.log").symlink_to(logs / f"{room}.log")
        async with deployed(tmp_path) as deployment:
            with filled(logs):
                await post(deployment, "unsaid")
                await mailed(deployment, 2 * LEADS)
                for room in ROOMS:
                    assert await records_lost(deployment, room) > 0
            await post(deployment, "said")
            await mailed(deployment, 4 * LEADS)
            for room in ROOMS:
                last = deployment.log_file(room).read_text().splitlines()[-1]
                assert json.loads(last)["service"] == room
