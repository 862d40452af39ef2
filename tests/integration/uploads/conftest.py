"""A storage that takes uploads."""

from pathlib import Path

import pytest

from tests.harness.storage import storage_in
from tests.harness.uploads import PUBLIC


@pytest.fixture
async def storage(tmp_path: Path):
    async with storage_in(tmp_path, **PUBLIC) as storage:
        yield storage
