"""What is wrong with a URL, its login or its server is one line with what to do, and not the password."""

import pytest

from services.api.settings import MIGRATIONS as API_MIGRATIONS
from shared.engines import turns
from shared.schema import DatabaseBroken, DatabaseUnfit
from tests.harness.postgresql import connected
from tests.harness.room_on_server import BUSY_SECONDS, opened, refused

pytestmark = pytest.mark.postgresql


async def test_what_is_wrong_with_the_url_is_said_and_not_tried_again(postgres, postgres_url):
    name = postgres_url.rpartition("/")[2]
    await refused(postgres.url(name, password="s3cret"), DatabaseUnfit, "refused the login: check the user")
    await refused(postgres.url("nowhere"), DatabaseUnfit, "does not exist: make it with `createdb`")


async def test_a_user_who_may_make_no_schema_is_told_so(postgres, postgres_url):
    name = postgres_url.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} OWNER TO postgres")
    await refused(postgres_url, DatabaseUnfit, "does not let the user of the URL do what Leads must")
    postgres.execute("CREATE SCHEMA api AUTHORIZATION leads", name)
    async with opened(postgres_url) as database:
        await database.migrate(API_MIGRATIONS)


async def test_a_database_that_may_only_be_read_is_told_so(postgres, postgres_url):
    name = postgres_url.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    await refused(postgres_url, DatabaseUnfit, "may only be read: is it a standby")


async def test_a_server_that_is_away_or_full_of_connections_may_be_there_later(postgres, postgres_url, monkeypatch):
    monkeypatch.setattr(turns, "BUSY_TIMEOUT_SECONDS", BUSY_SECONDS)
    name = postgres_url.rpartition("/")[2]
    await refused(postgres.url(name, port=1), DatabaseBroken, "does not answer: check that its server runs there")
    postgres.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 1")
    async with connected(postgres_url):
        await refused(postgres_url, DatabaseBroken, "has no connection left: raise max_connections")
