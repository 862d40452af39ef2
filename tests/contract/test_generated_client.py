"""A client that a generator made of docs/openapi.json, with no line of ours in it, sends a lead to a running Leads."""

import asyncio
import json
from pathlib import Path

from contracts.documents import OPENAPI
from tests.harness.contract_tools import CLIENT, run
from tests.harness.deployment import ADMIN, PASSWORD, deployed
from tests.harness.files import pdf

PROGRAM = Path(__file__).parent / "client" / "send_and_list.py"


def generate(folder: Path) -> None:
    """Without a warning: none of the document is left out."""
    settings = folder / "settings.json"
    settings.write_text('{"post_hooks": []}')
    run(
        *(CLIENT / "bin" / "openapi-python-client", "generate", "--meta", "none", "--fail-on-warning"),
        *("--path", OPENAPI, "--output-path", folder / "leads_client", "--config", settings),
    )


async def test_a_generated_client_sends_a_lead_signs_in_and_finds_it(tmp_path, client_generator):
    generate(tmp_path)
    resume = tmp_path / "cv.pdf"
    resume.write_bytes(pdf(20_000))
    async with deployed(tmp_path / "leads") as deployment:
        command = (CLIENT / "bin" / "python", PROGRAM, deployment.api_url, ADMIN, PASSWORD, resume)
        said = json.loads(await asyncio.to_thread(run, *command, env={"PYTHONPATH": str(tmp_path)}))
    lead = said["sent"]["lead"]
    assert (said["sent"]["status"], said["sent"]["as"], lead["state"]) == (201, "LeadView", "PENDING")
    assert (lead["first_name"], lead["email"], lead["resume"]["size"]) == ("Zoë", "ann@example.com", 20_000)
    assert said["again"] == "true"
    assert said["refused"] == {"status": 422, "as": "ProblemDetails", "type": "urn:leads:problem:invalid-fields"}
    assert said["listed"] == {"ids": [lead["id"]], "total": 1}
    assert said["downloaded_bytes"] == 20_000
