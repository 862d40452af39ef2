"""A real server of Azure Blob Storage's protocol for tests: Microsoft's emulator Azurite, as a process of its own."""

import base64
import hashlib
import hmac
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from tests.harness.deployment import ROOT, free_ports
from tests.harness.http_server import serving

MISSING = "Azurite is not installed here: run `scripts/contract-tools`, which says what it needs."

FOLDER = ROOT / "tests" / "contract" / "azurite" / "node_modules"
PROGRAM = FOLDER / ".bin" / "azurite-blob"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The same in each Azurite, and printed in its manual."""


def azurite_is_here() -> bool:
    """Whether there is Node.js, with what `package-lock.json` lists."""
    return shutil.which("node") is not None and (FOLDER / ".package-lock.json").exists()


@dataclass(frozen=True)
class Azurite:
    """A running server on 127.0.0.1."""

    port: int

    def make_container(self, name: str) -> None:
        """An empty container (the call "Create Container", authorised with Shared Key)."""
        date, version = formatdate(usegmt=True), "2021-08-06"
        resource = f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        signed = "PUT" + 12 * "\n" + f"x-ms-date:{date}\nx-ms-version:{version}\n{resource}"
        digest = hmac.new(base64.b64decode(KEY), signed.encode(), hashlib.sha256).digest()
        headers = {
            "x-ms-date": date,
            "x-ms-version": version,
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        }
        url = f"http://127.0.0.1:{self.port}/{ACCOUNT}/{name}?restype=container"
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers), timeout=10):
            pass

    def settings(self, container: str) -> dict[str, str]:
        """What leads to a container here."""
        return {
            "LEADS_BLOB_URL": f"az://{container}/leads",
            "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{self.port}/{ACCOUNT}",
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        }


@contextmanager
def azurite(folder: Path) -> Iterator[Azurite]:
    """A server, ended afterwards. Its log is `folder/azurite.log`. Raises `RuntimeError` with `MISSING`."""
    if not azurite_is_here():
        raise RuntimeError(MISSING)
    (port,) = free_ports(1)
    options = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    command = [str(PROGRAM), "--blobHost", "127.0.0.1", "--blobPort", str(port), *options]
    with serving(command, f"http://127.0.0.1:{port}/", folder / "azurite.log"):
        yield Azurite(port)
