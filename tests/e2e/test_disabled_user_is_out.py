"""Who is disabled at the terminal is out with the next request, and so are all tokens from before a new password."""

import time

import pytest
import pytest_asyncio

from tests.harness.client import Client
from tests.harness.commands import leads
from tests.harness.deployment import ADMIN
from tests.harness.sizes import House, embedded

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANN = "Ann.Staff@example.com"
FIRST, SECOND = "the-first-password-of-ann", "the-second-password-of-ann"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory):
    async with embedded(tmp_path_factory.mktemp("house")) as house:
        added = await leads(house.deployment, "users", "add", ANN, "--password-stdin", stdin=f"{FIRST}\n")
        assert (added.status, added.errors) == (0, "")
        yield house


async def status(client: Client) -> int:
    return (await client.call("GET", "/leads")).status


async def test_a_disabled_user_is_out_within_a_second_and_a_new_password_lets_only_new_tokens_in(house: House):
    async with Client(house.deployment.api_url) as ann, Client(house.deployment.api_url) as again:
        assert (await ann.login(ANN.upper(), FIRST)).status == 200
        assert await status(ann) == 200

        disabled = await leads(house.deployment, "users", "disable", ANN)
        began_at = time.monotonic()
        assert (disabled.status, await status(ann)) == (0, 401)
        assert time.monotonic() - began_at < 1
        refused = await again.login(ANN, FIRST)
        assert (refused.status, refused.json) == (401, (await again.login(ANN, "wrong-password")).json)

        done = await leads(house.deployment, "users", "passwd", ANN, "--password-stdin", stdin=f"{SECOND}\n")
        assert (done.status, await status(ann)) == (0, 401), "a token from before stays refused"
        assert (await again.login(ANN, FIRST)).status == 401
        assert (await again.login(ANN, SECOND)).status == 200
        assert await status(again) == 200


@pytest.mark.long
async def test_a_new_password_revokes_the_tokens_of_the_old_one(house: House):
    async with Client(house.deployment.api_url) as admin:
        made = await leads(house.deployment, "users", "passwd", ADMIN)
        password = made.output.split("Password: ")[1].split()[0]
        assert (await admin.login(ADMIN, password)).status == 200
        assert await status(admin) == 200
        await leads(house.deployment, "users", "passwd", ADMIN)
        assert await status(admin) == 401


async def test_an_unknown_user_is_one_line_and_a_failed_command(house: House):
    done = await leads(house.deployment, "users", "disable", "nobody@example.com")
    assert (done.status, done.output) == (1, "")
    assert done.errors == "leads: There is no user nobody@example.com.\n"


async def test_a_short_password_is_refused_with_the_rule(house: House):
    done = await leads(house.deployment, "users", "passwd", ANN, "--password-stdin", stdin="short\n")
    assert done.status == 1
    assert "at least 12 characters" in done.errors
