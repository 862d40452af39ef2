"""One stack for all tests of this folder, built and started from nothing, and taken away with its volumes."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.harness.compose import MISSING, Stack, docker, find_compose
from tests.harness.missing import cannot_run
from tests.harness.sizes import STAFF


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack() -> AsyncIterator[Stack]:
    """Built, not started. Without an engine: a failure in CI, a skip elsewhere."""
    if find_compose() is None:
        cannot_run(MISSING)
    stack = Stack({"LEADS_STAFF_EMAIL": STAFF, "LEADS_ORPHAN_GRACE_SECONDS": "5", "LEADS_SWEEP_INTERVAL_SECONDS": "1"})
    try:
        await stack.build()
        yield stack
    finally:
        await stack.down()
    left = await docker("volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={stack.project}")
    assert left.split() == [], "its volumes are gone with it"
