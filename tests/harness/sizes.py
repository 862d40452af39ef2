"""The sizes of Leads as deployments: all in one folder, or with RabbitMQ, SendGrid (a stand-in), PostgreSQL or S3."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from shared.ids import new_id
from shared.postgresql import SCHEMAS
from tests.harness.deployment import Deployment, deployed
from tests.harness.inbox import Inbox, mailbox_inbox, sendgrid_inbox
from tests.harness.mariadb import MariaServer
from tests.harness.postgresql import PostgresServer
from tests.harness.rabbitmq import RabbitNode
from tests.harness.rabbitmq_cluster import RabbitCluster
from tests.harness.s3 import S3Server
from tests.harness.sendgrid import SendGridStandIn

EMBEDDED, EMBEDDED_SENDGRID, AT_SCALE, S3 = "embedded", "embedded-sendgrid", "rabbitmq-sendgrid", "s3"
ON_POSTGRESQL, ON_MARIADB = "postgresql-rabbitmq-sendgrid", "mariadb-rabbitmq-sendgrid"
CLUSTERED = "rabbitmq-cluster-sendgrid"
PAST_ONE_MACHINE = "postgresql-rabbitmq-s3-sendgrid"
STAFF = "staff@leads.example"


@dataclass(frozen=True)
class House:
    """A running deployment, and where its e-mails arrive."""

    deployment: Deployment
    inbox: Inbox
    sendgrid: SendGridStandIn | None = None


def mail_through(sendgrid: SendGridStandIn) -> dict[str, str]:
    """The settings that send mail to the stand-in."""
    return {
        "LEADS_MAIL_URL": "sendgrid://",
        "LEADS_STAFF_EMAIL": STAFF,
        "SENDGRID_API_KEY": "SG.a-key-of-the-tests",
        "SENDGRID_BASE_URL": sendgrid.base_url,
    }


NEEDED_BY = {
    EMBEDDED: (),
    AT_SCALE: (pytest.mark.rabbitmq,),
    PAST_ONE_MACHINE: (pytest.mark.rabbitmq, pytest.mark.postgresql),
    ON_MARIADB: (pytest.mark.rabbitmq, pytest.mark.mariadb, pytest.mark.long),
}
"""The marks of tests that run on a size."""


def sizes(*wanted: str) -> list[ParameterSet]:
    """These sizes as parameters of a fixture that yields a `house_of` each."""
    return [pytest.param(size, marks=NEEDED_BY[size]) for size in wanted]


@asynccontextmanager
async def house_of(request: pytest.FixtureRequest, settings: Mapping[str, str] | None = None) -> AsyncIterator[House]:
    """A house of the size that is the fixture's parameter, in a folder of its own."""
    folder = request.getfixturevalue("tmp_path_factory").mktemp(request.param)
    found = request.getfixturevalue
    if request.param == EMBEDDED:
        opened = embedded(folder, settings)
    elif request.param == AT_SCALE:
        opened = at_scale(folder, found("rabbit_node"), settings)
    elif request.param == ON_MARIADB:
        opened = on_mariadb(folder, found("maria"), found("rabbit_node"), settings)
    else:
        opened = past_one_machine(folder, found("postgres"), found("rabbit_node"), found("s3_server"), settings)
    async with opened as house:
        yield house


@asynccontextmanager
async def embedded(folder: Path, settings: Mapping[str, str] | None = None) -> AsyncIterator[House]:
    """Everything in `folder`: SQLite, the embedded bus, the mailbox."""
    async with deployed(folder, {"LEADS_STAFF_EMAIL": STAFF, **(settings or {})}) as deployment:
        yield House(deployment, mailbox_inbox(deployment.mailbox))


@asynccontextmanager
async def with_sendgrid(folder: Path, settings: Mapping[str, str] | None = None) -> AsyncIterator[House]:
    """The embedded bus; mail goes to a stand-in for SendGrid."""
    async with (
        SendGridStandIn(log=folder / "sendgrid.jsonl") as sendgrid,
        deployed(folder, {**mail_through(sendgrid), **(settings or {})}) as deployment,
    ):
        yield House(deployment, sendgrid_inbox(sendgrid.received), sendgrid)


@asynccontextmanager
async def with_s3(
    folder: Path, server: S3Server, settings: Mapping[str, str] | None = None, *, s3_port: int | None = None
) -> AsyncIterator[House]:
    """Everything in `folder` but the resumes, which go into a bucket of their own in `server`.

    `s3_port` is where the storage finds the server if something stands between.
    """
    async with embedded(folder, {**_own_bucket(server, s3_port), **(settings or {})}) as house:
        yield house


@asynccontextmanager
async def at_scale(
    folder: Path,
    node: RabbitNode | RabbitCluster,
    settings: Mapping[str, str] | None = None,
    *,
    broker_port: int | None = None,
) -> AsyncIterator[House]:
    """RabbitMQ (a virtual host of its own in `node`, which may be a cluster), and mail to a stand-in for SendGrid.

    `broker_port` is where the rooms find the node if something stands between, as a `Proxy` does.
    """
    node.start()
    vhost = f"test-{new_id()}"
    node.add_vhost(vhost)
    try:
        async with with_sendgrid(
            folder, {"LEADS_BROKER_URL": node.url(vhost, port=broker_port), **(settings or {})}
        ) as house:
            yield house
    finally:
        if node.running:
            node.delete_vhost(vhost)


@asynccontextmanager
async def on_postgresql(
    folder: Path, server: PostgresServer, node: RabbitNode, settings: Mapping[str, str] | None = None
) -> AsyncIterator[House]:
    """As `at_scale`, with the rows of api and notifier in one database of their own in `server`."""
    server.start()
    database = server.add_database()
    urls = dict.fromkeys(SCHEMAS, server.url(database))
    try:
        async with at_scale(folder, node, {**urls, **(settings or {})}) as house:
            yield house
    finally:
        if server.running:
            server.drop_database(database)


@contextmanager
def databases_in(server: MariaServer) -> Iterator[dict[str, str]]:
    """The settings that lead api and notifier to a database each in `server`."""
    server.start()
    databases = {setting: server.add_database() for setting in SCHEMAS}
    try:
        yield {setting: server.url(database) for setting, database in databases.items()}
    finally:
        if server.running:
            for database in databases.values():
                server.drop_database(database)


@asynccontextmanager
async def on_mariadb(
    folder: Path, server: MariaServer, node: RabbitNode, settings: Mapping[str, str] | None = None
) -> AsyncIterator[House]:
    """As `at_scale`, with the rows of api and notifier in MariaDB."""
    with databases_in(server) as urls:
        async with at_scale(folder, node, {**urls, **(settings or {})}) as house:
            yield house


@asynccontextmanager
async def past_one_machine(
    folder: Path, server: PostgresServer, node: RabbitNode, s3: S3Server, settings: Mapping[str, str] | None = None
) -> AsyncIterator[House]:
    """As `on_postgresql`, with the resumes in a bucket of their own in `s3`: nothing that must last is in `folder`."""
    async with on_postgresql(folder, server, node, {**_own_bucket(s3), **(settings or {})}) as house:
        yield house


def _own_bucket(server: S3Server, port: int | None = None) -> dict[str, str]:
    """The settings that lead to a new bucket in `server`."""
    bucket = f"test-{new_id()}"
    server.make_bucket(bucket)
    return server.settings(bucket, port=port)
