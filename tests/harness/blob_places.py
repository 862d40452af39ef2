"""The stores of resumes, each with a look behind its back: a folder, memory, S3, Azure, and Google if there is one."""

import os
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore

from services.storage.blobs import BlobStore
from services.storage.bucket_inventory import BucketInventory
from services.storage.folder import INCOMING
from services.storage.inventory import Inventory, inventory_of
from services.storage.objects import ObjectBlobs
from services.storage.settings import StorageSettings
from services.storage.stores import store_of
from shared.ids import new_id
from tests.harness.azurite import Azurite
from tests.harness.s3 import S3Server

GCS_URL = "LEADS_TEST_GCS_URL"
"""A bucket of Google's, `gs://bucket/prefix`: without one its promises are not tried (see docs/storage.md)."""


class Place:
    """A store, and a look at it as an audit has it."""

    def __init__(self, blobs: BlobStore, inventory: Inventory, hidden: "Hidden", *, signs: bool = False) -> None:
        self.blobs = blobs
        self.inventory = inventory
        self.hidden = hidden
        self.signs = signs


class Hidden:
    """What lies beside the blobs: bodies that have no name yet."""

    def __init__(self, where: Path | ObjectBlobs) -> None:
        self._where = where

    async def names(self) -> set[str]:
        if isinstance(self._where, Path):
            return {path.name for path in (self._where / INCOMING).iterdir()}
        found = await obstore.list(self._where._bucket, INCOMING).collect_async()
        return {one["path"] for one in found}


def s3_settings(
    monkeypatch: pytest.MonkeyPatch, s3_server: S3Server, bucket: str, *, exists: bool = True, **more: str
) -> StorageSettings:
    """A bucket in that server, by the environment."""
    if exists:
        s3_server.make_bucket(bucket)
    for name, value in {**s3_server.settings(bucket), **more}.items():
        monkeypatch.setenv(name, value)
    return StorageSettings()


def folder_place(tmp_path: Path) -> Place:
    """A folder."""
    settings = StorageSettings(data_dir=tmp_path, storage_min_free_bytes=0)
    return Place(store_of(settings).blobs, inventory_of(settings), Hidden(settings.blob_folder))


def memory_place() -> Place:
    """A bucket in memory."""
    blobs = ObjectBlobs(MemoryStore())
    return Place(blobs, BucketInventory(blobs), Hidden(blobs))


def s3_place(monkeypatch: pytest.MonkeyPatch, s3_server: S3Server) -> Place:
    """A new bucket in that server."""
    settings = s3_settings(monkeypatch, s3_server, f"bucket-{new_id()}")
    blobs = store_of(settings).blobs
    assert isinstance(blobs, ObjectBlobs)
    return Place(blobs, inventory_of(settings), Hidden(blobs), signs=True)


def azure_place(monkeypatch: pytest.MonkeyPatch, server: Azurite) -> Place:
    """A new container in that server."""
    container = f"container-{new_id()}"
    server.make_container(container)
    for name, value in server.settings(container).items():
        monkeypatch.setenv(name, value)
    settings = StorageSettings()
    blobs = store_of(settings).blobs
    assert isinstance(blobs, ObjectBlobs)
    return Place(blobs, inventory_of(settings), Hidden(blobs), signs=True)


def gcs_place(monkeypatch: pytest.MonkeyPatch) -> Place:
    """A folder of its own in a bucket that whoever runs this has given."""
    monkeypatch.setenv("LEADS_BLOB_URL", f"{os.environ[GCS_URL].rstrip('/')}/{new_id()}")
    settings = StorageSettings()
    blobs = store_of(settings).blobs
    assert isinstance(blobs, ObjectBlobs)
    return Place(blobs, inventory_of(settings), Hidden(blobs), signs=True)
