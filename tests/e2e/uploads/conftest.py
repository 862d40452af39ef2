"""A deployment that offers tickets, and a client of it."""

import pytest_asyncio

from tests.harness.claims import PUBLIC_URL, SWEEP_SECONDS
from tests.harness.client import Client
from tests.harness.files import MIB
from tests.harness.sizes import EMBEDDED, ON_MARIADB, House, house_of, sizes


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=sizes(EMBEDDED, ON_MARIADB))
async def house(request):
    settings = {
        "LEADS_STORAGE_PUBLIC_URL": f"{PUBLIC_URL}/",
        "LEADS_RESUME_MAX_BYTES": str(32 * MIB),
        "LEADS_ORPHAN_GRACE_SECONDS": "2",
        "LEADS_SWEEP_INTERVAL_SECONDS": str(SWEEP_SECONDS),
    }
    async with house_of(request, settings) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def client(house: House):
    async with Client(house.deployment.api_url) as client:
        yield client
