"""The resumes of a deployment, looked up behind its back, in whatever store its `LEADS_BLOB_URL` names."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import obstore
from obstore.store import S3Store

from tests.harness.deployment import Deployment
from tests.harness.s3 import BEHIND

INCOMING = ".incoming"


class Stored(Protocol):
    """What is stored now."""

    def names(self) -> set[str]:
        """Ids of the blobs."""

    def unfinished(self) -> set[str]:
        """Bodies that are on their way in, or never got there."""

    def read(self, blob_id: str) -> bytes:
        """All of a blob. Raises `FileNotFoundError`."""

    def write(self, blob_id: str, body: bytes) -> None:
        """Put these bytes under that name, whatever is there."""

    def remove(self, blob_id: str) -> None:
        """Lose a blob."""


def stored(deployment: Deployment) -> Stored:
    """The store of this deployment."""
    url = deployment.environment.get("LEADS_BLOB_URL", "")
    if url.startswith("s3://"):
        return StoredInBucket(url, deployment.environment)
    return StoredInFolder(deployment.resumes)


def hashes(deployment: Deployment) -> dict[str, str]:
    """SHA-256 of each blob."""
    store = stored(deployment)
    return {blob: sha256(store.read(blob)).hexdigest() for blob in store.names()}


class StoredInFolder:
    """Files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self) -> set[str]:
        return {path.name for path in self._folder.iterdir() if not path.name.startswith(".")}

    def unfinished(self) -> set[str]:
        incoming = self._folder / INCOMING
        return {path.name for path in incoming.iterdir()} if incoming.exists() else set()

    def read(self, blob_id: str) -> bytes:
        return (self._folder / blob_id).read_bytes()

    def write(self, blob_id: str, body: bytes) -> None:
        (self._folder / blob_id).write_bytes(body)

    def remove(self, blob_id: str) -> None:
        (self._folder / blob_id).unlink()


class StoredInBucket:
    """Objects, asked for directly at the server."""

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        self._bucket = S3Store.from_url(
            url,
            endpoint=environment[BEHIND],
            access_key_id=environment["AWS_ACCESS_KEY_ID"],
            secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            client_options={"allow_http": True},
        )

    def names(self) -> set[str]:
        return {name for name in self._listed() if not name.startswith(".")}

    def unfinished(self) -> set[str]:
        return {name for name in self._listed() if name.startswith(f"{INCOMING}/")}

    def read(self, blob_id: str) -> bytes:
        return bytes(obstore.get(self._bucket, blob_id).bytes())

    def write(self, blob_id: str, body: bytes) -> None:
        obstore.put(self._bucket, blob_id, body)

    def remove(self, blob_id: str) -> None:
        obstore.delete(self._bucket, blob_id)

    def _listed(self) -> set[str]:
        return {one["path"] for batch in obstore.list(self._bucket) for one in batch}
