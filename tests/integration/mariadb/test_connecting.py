"""Ways to MariaDB: by TLS, by a socket, with a password of any letters; and what MySQL alone is told."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, String, Table, select
from sqlalchemy.dialects.mysql import dialect as mysql_dialect
from sqlalchemy.engine import make_url

from services.api.settings import MIGRATIONS as API_MIGRATIONS
from shared.dialect import _insert_new
from shared.engines.mysql import _always
from shared.schema import DatabaseUnfit
from tests.harness.certificates import self_signed
from tests.harness.mariadb import MISSING, MariaServer, find_mariadb
from tests.harness.missing import cannot_run
from tests.harness.room_on_server import ask, opened

pytestmark = [pytest.mark.mariadb, pytest.mark.long]

IS_ENCRYPTED = ask("SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'")


@pytest.fixture(scope="module")
def certificate() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # pytest's folders are closed to the server's user
        Path(folder).chmod(0o755)
        yield self_signed(Path(folder))[0]


@pytest.fixture(scope="module")
def with_tls(certificate: Path) -> Iterator[MariaServer]:
    if not find_mariadb():
        cannot_run(MISSING)
    key = certificate.with_name("key.pem")
    key.chmod(0o644)
    server = MariaServer([f"--ssl-cert={certificate}", f"--ssl-key={key}"])
    yield server
    server.remove()


@pytest.mark.parametrize("options", ["ssl=required", "ssl=verify_identity&ssl_ca={certificate}"])
async def test_what_is_asked_for_is_encrypted(with_tls, certificate, options):
    url = f"{with_tls.url(with_tls.add_database())}?{options.format(certificate=certificate)}"
    async with opened(url) as database:
        await database.migrate(API_MIGRATIONS)
        assert await database.read(IS_ENCRYPTED) != ""


async def test_somebody_elses_certificate_is_refused(with_tls, tmp_path):
    foreign, _ = self_signed(tmp_path)
    url = f"{with_tls.url(with_tls.add_database())}?ssl=verify_identity&ssl_ca={foreign}"
    async with opened(url) as database:
        with pytest.raises(DatabaseUnfit, match="does not speak TLS as the URL asks for it"):
            await database.migrate(API_MIGRATIONS)


async def test_a_password_may_have_any_letters_and_the_way_may_be_a_socket(maria, maria_url):
    password = "Zoë 李 '\"%@:/"
    maria.execute("CREATE USER IF NOT EXISTS zoe@localhost IDENTIFIED BY '{}'".format(password.replace("'", "''")))
    maria.execute(f"GRANT ALL ON `{maria_url.rpartition('/')[2]}`.* TO zoe@localhost")
    named = make_url(maria_url).set(username="zoe", password=password, host=None, port=None)
    by_socket = named.set(query={"unix_socket": str(maria.socket)})
    async with opened(by_socket.render_as_string(hide_password=False)) as database:
        await database.migrate(API_MIGRATIONS)
        assert database.name.endswith(f"{maria.socket}/{by_socket.database}")


def test_mysql_is_told_nothing_that_it_does_not_know():
    """It is not run here: https://dev.mysql.com/doc/refman/8.4/en/."""
    said = " ".join(_always(is_mariadb=False))
    assert "max_execution_time = 10000" in said
    assert "max_statement_time" not in said
    leads = Table("leads", MetaData(), Column("id", String(36), primary_key=True))
    dialect = mysql_dialect()
    dialect.server_version_info = (8, 4, 0)
    insert = str(_insert_new("mysql", leads).compile(dialect=dialect)).replace(" AS new", "")
    assert insert == "INSERT INTO leads (id) VALUES (%s) ON DUPLICATE KEY UPDATE id = leads.id"
    shared = str(select(leads.c.id).with_for_update(read=True).compile(dialect=dialect))
    assert shared.endswith(("FOR SHARE", "LOCK IN SHARE MODE"))
