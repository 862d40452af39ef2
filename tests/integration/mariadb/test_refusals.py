"""What is wrong with a URL, its login or its server is one line with what to do, and not the password."""

import pytest

from services.api.settings import MIGRATIONS as API_MIGRATIONS
from services.api.settings import ApiSettings
from shared.engines import turns
from shared.schema import DatabaseBroken, DatabaseUnfit
from shared.settings import SettingsError, load
from tests.harness.mariadb import MariaServer
from tests.harness.room_on_server import opened, refused
from tests.integration.mariadb.conftest import BUSY_SECONDS

pytestmark = [pytest.mark.mariadb, pytest.mark.long]


async def test_what_is_wrong_with_the_url_is_said_and_not_tried_again(maria, maria_url):
    name = maria_url.rpartition("/")[2]
    await refused(maria.url(name, password="s3cret"), DatabaseUnfit, "refused the login: check the user")
    await refused(maria.url("elsewhere"), DatabaseUnfit, "refused the login: .* GRANT gave it this database")
    await refused(maria.url("test_nowhere"), DatabaseUnfit, "does not exist: make it with `CREATE DATABASE`")


async def test_a_user_who_may_make_no_tables_is_told_so(maria, maria_url):
    name = maria_url.rpartition("/")[2]
    maria.execute("CREATE USER IF NOT EXISTS reader@127.0.0.1 IDENTIFIED BY 'reader'")
    maria.execute(f"GRANT SELECT ON `{name}`.* TO reader@127.0.0.1")
    url = maria.url(name, password="reader").replace("//leads:", "//reader:")
    await refused(url, DatabaseUnfit, "does not let the user of the URL do what Leads must")


async def test_a_server_that_may_only_be_read_is_told_so(own_maria):
    own_maria.execute("SET GLOBAL read_only = ON")
    await refused(own_maria.url(own_maria.add_database()), DatabaseUnfit, "may only be read: is it a replica")


async def test_a_server_that_forgets_what_it_committed_is_not_used(own_maria):
    """These settings are the server's: no session can ask for more."""
    url = own_maria.url(own_maria.add_database())
    own_maria.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    await refused(url, DatabaseUnfit, "forgets what it committed .* SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    own_maria.execute("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    async with opened(url) as database:
        await database.migrate(API_MIGRATIONS)


async def test_a_binary_log_that_is_not_synced_takes_commits_back_and_is_not_used():
    server = MariaServer(["--log-bin", "--server-id=1"])
    try:
        url = server.url(server.add_database())
        await refused(
            url, DatabaseUnfit, r"forgets what it committed .*\(sync_binlog is 0\): SET GLOBAL sync_binlog = 1"
        )
        server.execute("SET GLOBAL sync_binlog = 1")
        async with opened(url) as database:
            await database.migrate(API_MIGRATIONS)
    finally:
        server.remove()


async def test_a_server_that_is_away_or_full_of_connections_may_be_there_later(maria, maria_url, monkeypatch):
    monkeypatch.setattr(turns, "BUSY_TIMEOUT_SECONDS", BUSY_SECONDS)
    name = maria_url.rpartition("/")[2]
    await refused(maria.url(name, port=1), DatabaseBroken, "does not answer: check that its server runs there")
    maria.execute("CREATE USER IF NOT EXISTS full@127.0.0.1 IDENTIFIED BY 'full' WITH MAX_USER_CONNECTIONS 1")
    maria.execute(f"GRANT ALL ON `{name}`.* TO full@127.0.0.1")
    url = maria.url(name, password="full").replace("//leads:", "//full:")
    async with opened(url) as database:
        await database.check()
        await refused(url, DatabaseBroken, "gives the user of the URL no more: see its limits")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("charset=latin1", "charset is no option of a connection"),
        ("ssl=yes", "ssl must be one of disabled, required, verify_identity, not yes"),
        ("ssl=verify_identity&ssl_ca=/nowhere", "ssl_ca must name the file of an authority's certificate"),
        ("ssl=verify_identity&ssl_ca=/etc/passwd", "/etc/passwd cannot be read as a certificate"),
    ],
)
async def test_an_option_that_cannot_work_is_named(maria_url, option, words):
    with pytest.raises(SettingsError, match=f"LEADS_DATABASE_URL: {words}"):
        async with opened(f"{maria_url}?{option}"):
            pass


async def test_a_server_without_tls_is_not_spoken_to_in_clear_where_it_is_required(maria_url):
    async with opened(f"{maria_url}?ssl=required") as database:
        with pytest.raises(DatabaseUnfit, match="does not speak TLS as the URL asks for it"):
            await database.migrate(API_MIGRATIONS)


def test_the_search_by_words_is_refused_where_it_is_not_offered(maria_url):
    with pytest.raises(SettingsError, match="LEADS_RESUME_SEARCH is not offered with MySQL"):
        load(ApiSettings, database_url=maria_url, resume_search=True)
