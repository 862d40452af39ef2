"""Fixtures that several folders share. Helpers are plain modules in `tests/harness`."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.ids import new_id
from tests.harness import mariadb, postgresql, s3
from tests.harness.mariadb import MariaServer, find_mariadb
from tests.harness.missing import cannot_run
from tests.harness.postgresql import PostgresServer, find_postgresql
from tests.harness.rabbitmq import MISSING, RabbitNode, find_rabbitmq


def pytest_configure() -> None:
    """A run that is told to end takes its processes with it: as after Ctrl-C, fixtures are torn down."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def rabbit_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitNode]:
    """A private RabbitMQ node for the whole run. Without the package: a failure in CI, a skip elsewhere."""
    if find_rabbitmq() is None:
        cannot_run(MISSING)
    node = RabbitNode(tmp_path_factory.mktemp("rabbitmq"))
    try:
        node.start()
        yield node
    finally:
        node.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A private PostgreSQL server for the whole run. Without the package: a failure in CI, a skip elsewhere."""
    if find_postgresql() is None:
        cannot_run(postgresql.MISSING)
    server = PostgresServer()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database of the test's own. A server that an earlier test left dead is started again."""
    postgres.start()
    database = postgres.add_database()
    yield postgres.url(database)
    if postgres.running:
        postgres.drop_database(database)


@pytest.fixture(scope="session")
def maria() -> Iterator[MariaServer]:
    """A private MariaDB server for the whole run. Without the package: a failure in CI, a skip elsewhere."""
    if not find_mariadb():
        cannot_run(mariadb.MISSING)
    server = MariaServer()
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture
def maria_url(maria: MariaServer) -> Iterator[str]:
    """The URL of a database of the test's own. A server that an earlier test left dead is started again."""
    maria.start()
    database = maria.add_database()
    yield maria.url(database)
    if maria.running:
        maria.drop_database(database)


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgresql", marks=[pytest.mark.postgresql, pytest.mark.long]),
        pytest.param("mariadb", marks=[pytest.mark.mariadb, pytest.mark.long]),
    ]
)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database of each kind: what a room keeps in it is to be the same."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'a.db'}"
    return str(request.getfixturevalue({"postgresql": "postgres_url", "mariadb": "maria_url"}[request.param]))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    """A private S3 server for the whole run. Without its packages: a failure in CI, a skip elsewhere."""
    if not s3.s3_is_here():
        cannot_run(s3.MISSING)
    with s3.s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def rabbit_url(rabbit_node: RabbitNode) -> Iterator[str]:
    """The URL of a virtual host of the test's own. A node that an earlier test left dead is started again."""
    rabbit_node.start()
    vhost = f"test-{new_id()}"
    rabbit_node.add_vhost(vhost)
    yield rabbit_node.url(vhost)
    if rabbit_node.running:
        rabbit_node.delete_vhost(vhost)
