"""What a stranger does with the generated client: send a lead, sign in, list. Prints what came back as JSON.

Runs in .venv/client, where nothing of ours is: `send_and_list.py API_URL USERNAME PASSWORD RESUME`.
"""

import json
import sys
from pathlib import Path

from leads_client import AuthenticatedClient, Client
from leads_client.api.intake import submit_lead
from leads_client.api.staff import download_resume, list_leads, sign_in
from leads_client.models import CredentialsForm, LeadForm, ListLeadsSort
from leads_client.types import File

url, username, password, resume = sys.argv[1:]
anyone = Client(base_url=url, raise_on_unexpected_status=True)


def send(email: str) -> submit_lead.Response:
    with Path(resume).open("rb") as file:
        form = LeadForm("Zoë", "O'Brien", email, File(file, file_name="cv.pdf", mime_type="application/pdf"))
        return submit_lead.sync_detailed(client=anyone, body=form, idempotency_key=email)


sent, again, refused = send("ann@example.com"), send("ann@example.com"), send("no address")
token = sign_in.sync(client=anyone, body=CredentialsForm(username, password))
staff = AuthenticatedClient(base_url=url, token=token.access_token, raise_on_unexpected_status=True)
page = list_leads.sync(client=staff, q="o'brien", sort=ListLeadsSort.LAST_NAME, limit=5, total=True)
file = download_resume.sync_detailed(sent.parsed.id, client=staff)

said = {
    "sent": {"status": sent.status_code, "as": type(sent.parsed).__name__, "lead": sent.parsed.to_dict()},
    "again": again.headers.get("Idempotency-Replayed"),
    "refused": {"status": refused.status_code, "as": type(refused.parsed).__name__, "type": refused.parsed.type_},
    "listed": {"ids": [lead.id for lead in page.items], "total": page.total},
    "downloaded_bytes": len(file.content),
}
sys.stdout.write(json.dumps(said))
