"""A deployment that offers tickets, and a client of it."""

import pytest
import pytest_asyncio

from tests.harness.claims import PUBLIC_URL, SWEEP_SECONDS
from tests.harness.client import Client
from tests.harness.files import MIB
from tests.harness.sizes import EMBEDDED, ON_MARIADB, House, embedded, on_mariadb


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[
        EMBEDDED,
        pytest.param(ON_MARIADB, marks=[pytest.mark.rabbitmq, pytest.mark.mariadb, pytest.mark.long]),
    ],
)
async def house(request, tmp_path_factory):
    settings = {
        "LEADS_STORAGE_PUBLIC_URL": f"{PUBLIC_URL}/",
        "LEADS_RESUME_MAX_BYTES": str(32 * MIB),
        "LEADS_ORPHAN_GRACE_SECONDS": "2",
        "LEADS_SWEEP_INTERVAL_SECONDS": str(SWEEP_SECONDS),
    }
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == EMBEDDED:
        async with embedded(folder, settings) as house:
            yield house
    else:
        maria, node = request.getfixturevalue("maria"), request.getfixturevalue("rabbit_node")
        async with on_mariadb(folder, maria, node, settings) as house:
            yield house


@pytest_asyncio.fixture(loop_scope="module")
async def client(house: House):
    async with Client(house.deployment.api_url) as client:
        yield client
