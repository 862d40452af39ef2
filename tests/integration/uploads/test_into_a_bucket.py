"""Whole uploads on their way into a bucket, and what is left of them when nobody offers that any more."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.storage import adoption
from services.storage.adoption import AT_ONCE, IntoBucket
from services.storage.blobs import BlobMissing, StorageBroken
from services.storage.folder import INCOMING, part_name
from services.storage.settings import StorageSettings
from services.storage.stores import store_of
from shared.ids import new_id
from shared.tokens import LEEWAY_SECONDS
from tests.harness.uploads import until


class SlowBucket:
    """Takes a body when `ready` is set. Nothing is there before."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.putting = 0

    async def receipt(self, _blob_id: str) -> None:
        raise BlobMissing

    async def put(self, _blob_id: str, chunks, _disposition: str) -> None:
        self.putting += 1
        assert b"".join([chunk async for chunk in chunks]) == b"whole"
        await self.ready.wait()


async def test_who_would_wait_too_long_for_a_turn_is_told_so_and_loses_nothing(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(adoption, "PATIENCE_SECONDS", 0.1)
    files = [tmp_path / str(number) for number in range(AT_ONCE + 1)]
    for file in files:
        file.write_bytes(b"whole")
    bucket = SlowBucket()
    with ThreadPoolExecutor(1) as threads:
        adopter = IntoBucket(bucket, threads)  # type: ignore[arg-type]
        first = [asyncio.create_task(adopter.adopt(str(file), new_id(), "attachment")) for file in files[:AT_ONCE]]
        await until(lambda: bucket.putting == AT_ONCE)
        with pytest.raises(StorageBroken):
            await adopter.adopt(str(files[-1]), new_id(), "attachment")
        bucket.ready.set()
        await asyncio.gather(*first)
        assert [file for file in files if file.exists()] == files[-1:]
        await adopter.adopt(str(files[-1]), new_id(), "attachment")
    assert not files[-1].exists()


@pytest.mark.parametrize("blob_url", ["", "s3://bucket"])
async def test_what_is_left_is_swept_once_its_ticket_has_expired_also_where_uploads_are_not_offered(
    tmp_path: Path, monkeypatch, blob_url: str
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # which is away, and keeps nothing from being swept
    incoming = tmp_path / "uploads" / INCOMING
    incoming.mkdir(parents=True)
    now = int(time.time())
    expired, good = (incoming / part_name(new_id(), now + late) for late in (-LEEWAY_SECONDS - 3600, 600))
    for part in (expired, good):
        part.write_bytes(b"half")
    store = store_of(StorageSettings(data_dir=tmp_path, blob_url=blob_url, storage_min_free_bytes=0))
    assert store.uploads is None
    async with store.tended():
        await until(lambda: not expired.exists())
    assert good.exists()
