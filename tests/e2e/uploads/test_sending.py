"""A big resume goes straight to the storage, whatever breaks on the way."""

import asyncio
import hashlib
import os
import re
import shutil
import time
from asyncio.subprocess import PIPE, STDOUT
from datetime import UTC, datetime

import aiohttp
import pytest

from services.storage.folder import part_expires_at
from shared.tickets import TICKET_SECONDS, UNCLAIMED_SECONDS, Tickets
from shared.tokens import LEEWAY_SECONDS
from tests.harness import kept, raw_http
from tests.harness.claims import PUBLIC_URL, SMALL, a_ticket, claim, refused, sender, sent, wanted
from tests.harness.client import Client
from tests.harness.crash_points import CrashPoint
from tests.harness.deployment import ADMIN, PASSWORD, ROOT, Deployment
from tests.harness.files import MIB, docx, pdf
from tests.harness.inbox import wait_for
from tests.harness.missing import cannot_run
from tests.harness.sizes import House

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.long
async def test_twenty_megabytes_become_a_lead_with_the_same_bytes_and_its_emails(house: House, client: Client):
    body = docx(20_000_000)
    answer = await wanted(client, len(body), r"C:\people\Résumé.docx")
    offer = answer.json
    assert answer.headers["Location"] == offer["upload_url"]
    assert offer["upload_url"].startswith(f"{PUBLIC_URL}/uploads/")
    assert (offer["max_bytes"], offer["protocol"]) == (32 * MIB, "tus/1.0.0")
    assert 0 < datetime.fromisoformat(offer["expires_at"]).timestamp() - time.time() <= TICKET_SECONDS
    async with sender(house, offer) as upload:
        assert (await upload.send(body[:7_000_000], 0)).offset == 7_000_000
        refused(await claim(client, "big@example.com", offer["ticket"]), 409, "upload-unfinished")
        assert (await upload.send_all(body)).offset == len(body)

    lead = await claim(client, "big@example.com", offer["ticket"])
    assert lead.status == 201
    hashed = hashlib.sha256(body).hexdigest()
    assert (lead.json["resume"]["size"], lead.json["resume"]["sha256"]) == (len(body), hashed)
    assert (lead.json["resume"]["filename"], lead.json["state"]) == ("Résumé.docx", "PENDING")
    async with Client(house.deployment.api_url) as staff:
        await staff.login(ADMIN, PASSWORD)
        found = await staff.call("GET", f"{lead.headers['Location']}/resume")
        assert hashlib.sha256(found.body).hexdigest() == hashed
    await wait_for(house.inbox, 2, lead_id=lead.json["id"])
    assert kept.unfinished(house.deployment) == set()


async def test_a_broken_connection_and_a_killed_storage_cost_nothing_that_had_come(house: House, client: Client):
    body = pdf(20_000_000)
    offer = await a_ticket(client, body)
    blob_id = offer["upload_url"].rpartition("/")[2]

    def come() -> int:
        return sum(path.stat().st_size for path in (house.deployment.resumes / ".incoming").glob(f"{blob_id}.*"))

    async with sender(house, offer) as upload:
        async with raw_http.connection(house.deployment.ports["storage"]) as (_, writer):
            writer.write(upload.raw(0, len(body), f"/uploads/{blob_id}") + body[:6_000_000])
            while come() < 5_000_000:
                await asyncio.sleep(0.01)
        offset = await upload.quiet(len(body))
        assert 5_000_000 <= offset <= 6_000_000

        async with raw_http.connection(house.deployment.ports["storage"]) as (_, writer):
            writer.write(upload.raw(offset, len(body) - offset, f"/uploads/{blob_id}") + body[offset:13_000_000])
            while come() < 12_000_000:
                await asyncio.sleep(0.01)
            house.deployment.kill("storage")
        await house.deployment.restart("storage")
        offset = (await upload.ask()).offset or 0
        assert offset >= 12_000_000
        assert (await upload.send(body, offset)).offset == len(body)

    await house.deployment.stop("api")
    await house.deployment.restart("api")
    lead = await claim(client, "broken@example.com", offer["ticket"])
    assert (lead.status, lead.json["resume"]["sha256"]) == (201, hashlib.sha256(body).hexdigest())
    assert kept.unfinished(house.deployment) == set()


@pytest.mark.long
async def test_a_storage_that_is_told_to_stop_waits_for_no_slow_sender_and_keeps_what_came(
    house: House, client: Client
):
    offer = await a_ticket(client, SMALL)
    path = "/uploads/" + offer["upload_url"].rpartition("/")[2]
    async with sender(house, offer) as upload:
        async with raw_http.connection(house.deployment.ports["storage"]) as (_, writer):
            writer.write(upload.raw(0, len(SMALL), path) + SMALL[:200_000])
            while not (await upload.ask()).offset:
                await asyncio.sleep(0.01)
            assert await house.deployment.stop("storage") == 0
        await house.deployment.restart("storage")
        assert 100_000 < await upload.quiet(len(SMALL)) <= 200_000
        assert (await upload.send_all(SMALL)).offset == len(SMALL)
    assert (await claim(client, "told-to-stop@example.com", offer["ticket"])).status == 201


@pytest.mark.long
@pytest.mark.parametrize("step", ["temp synced", "named", "folder synced"])
async def test_a_storage_that_dies_while_it_finishes_an_upload_has_it_whole_afterwards(
    house: House, client: Client, step: str
):
    offer = await a_ticket(client, SMALL)
    house.deployment.kill("storage")
    house.deployment.launch("storage", CrashPoint("storage", step).command)
    await house.deployment.ready("storage")
    async with sender(house, offer) as upload:
        with pytest.raises(aiohttp.ClientError):
            await upload.send(SMALL, 0)
        house.deployment.processes["storage"].wait()
        await house.deployment.restart("storage")
        assert (await upload.ask()).offset == len(SMALL)
    lead = await claim(client, f"died-{step.replace(' ', '-')}@example.com", offer["ticket"])
    assert (lead.status, lead.json["resume"]["sha256"]) == (201, hashlib.sha256(SMALL).hexdigest())
    assert not [name for name in kept.unfinished(house.deployment) if name.startswith(lead.json["resume_path"])]


@pytest.mark.long
@pytest.mark.parametrize("step", ["row written", "row committed", "201 made"])
async def test_an_api_that_dies_with_a_claim_in_hand_leaves_one_lead_or_none_and_the_ticket_makes_it_one(
    house: House, client: Client, step: str
):
    ticket = await sent(house, client, SMALL)
    key = {"Idempotency-Key": f"died at {step}".replace(" ", "-")}
    email = f"died-{step.replace(' ', '-')}@people.example.com"
    house.deployment.kill("api")
    house.deployment.launch("api", CrashPoint("api", step).command)
    await house.deployment.ready("api")
    with pytest.raises(aiohttp.ClientError):
        await claim(client, email, ticket, headers=key)
    house.deployment.processes["api"].wait()
    await house.deployment.restart("api")
    lead = await claim(client, email, ticket, headers=key)
    assert lead.status == 201
    assert kept.lead_rows(house.deployment, email) == 1
    await wait_for(house.inbox, 2, lead_id=lead.json["id"])


async def test_a_sender_that_leaves_with_questions_open_is_no_error_of_ours(house: House, client: Client):
    """Its requests came one behind the other, and it went away before they were answered."""
    offer = await a_ticket(client, SMALL)
    path = "/uploads/" + offer["upload_url"].rpartition("/")[2]
    seen = len(house.deployment.log("storage"))
    async with sender(house, offer) as upload:
        for _ in range(20):
            async with raw_http.connection(house.deployment.ports["storage"]) as (_, writer):
                writer.write(raw_http.head("HEAD", path, upload.headers) * 3)
        assert (await upload.ask()).status == 200
    while sum(line["event"] == "request" for line in house.deployment.log("storage")[seen:]) < 21:
        await asyncio.sleep(0.05)
    assert not [line for line in house.deployment.log("storage")[seen:] if line["level"] == "error"]


async def test_half_an_upload_is_swept_once_its_ticket_has_expired(house: House, client: Client):
    halves = []
    for _ in range(2):
        offer = await a_ticket(client, SMALL)
        async with sender(house, offer) as upload:
            await upload.send(SMALL[:1000], 0)
        halves.append(offer["upload_url"].rpartition("/")[2])
    house.deployment.kill("storage")
    incoming = house.deployment.resumes / ".incoming"
    (late,) = incoming.glob(f"{halves[0]}.*")
    expires_at = str(part_expires_at(late.name))
    late.rename(incoming / late.name.replace(expires_at, str(int(time.time()) - LEEWAY_SECONDS - 3600)))
    await house.deployment.restart("storage")
    while any(incoming.glob(f"{halves[0]}.*")):
        await asyncio.sleep(0.05)
    assert len(list(incoming.glob(f"{halves[1]}.*"))) == 1
    assert not kept.blobs(house.deployment) & set(halves)


@pytest.mark.long
async def test_a_resume_without_a_lead_stays_while_its_ticket_is_good_and_goes_then(house: House, client: Client):
    """Far beyond the grace that is set, which is for those whose api died, and then no further than it must."""
    for number in range(2):  # beside fewer leads than orphans, none would be swept: leads might be missing
        await client.post_lead(f"beside-{number}@example.com", SMALL)
    before = kept.blobs(house.deployment)
    ticket, old = await sent(house, client, SMALL), await sent(house, client, SMALL)
    new = kept.blobs(house.deployment) - before
    blob_id = Tickets(house.deployment.environment["LEADS_SERVICE_SECRET"]).read(old).blob_id
    os.utime(house.deployment.resumes / blob_id, 2 * (datetime.now(UTC).timestamp() - UNCLAIMED_SECONDS - 1,))
    deadline = time.monotonic() + 100  # it must be watched for a minute as well
    while blob_id in kept.blobs(house.deployment):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)
    assert kept.blobs(house.deployment) & new == new - {blob_id}
    refused(await claim(client, "too-late@example.com", old), 409, "upload-unfinished")
    assert (await claim(client, "in-time@example.com", ticket)).status == 201


async def test_the_commands_of_the_docs_send_a_resume(tmp_path):
    if shutil.which("curl") is None:
        cannot_run("curl is not installed")
    (commands,) = re.findall(r"```sh\nAPI=.*?\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    (tmp_path / "portfolio.pdf").write_bytes(SMALL)
    deployment = Deployment(tmp_path)
    deployment.environment["LEADS_STORAGE_PUBLIC_URL"] = deployment.url("storage")
    try:
        await deployment.start()
        script = f"API={deployment.api_url} FILE=portfolio.pdf\n{commands}"
        shell = await asyncio.create_subprocess_exec(
            "bash", "-euo", "pipefail", "-c", script, cwd=tmp_path, stdout=PIPE, stderr=STDOUT
        )
        said = (await shell.communicate())[0].decode()
        assert shell.returncode == 0, said
        assert "204 No Content" in said
        assert "201 Created" in said
        assert hashlib.sha256(SMALL).hexdigest() in said
    finally:
        deployment.end()
