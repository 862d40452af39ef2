"""What people get wrong around a stack: each is one clear line, nothing is lost meanwhile, and mending it is enough."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import aiohttp
import pytest
import pytest_asyncio

from tests.harness.client import Client
from tests.harness.compose import IMAGE, Stack, docker
from tests.harness.deployment import ROOT, free_ports
from tests.harness.files import pdf

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

TOO_NEW = "9999_of_a_later_version"
RETRY_QUEUE = "notifier.retry.10s"

numbers = count()


@pytest_asyncio.fixture(loop_scope="session")
async def running(stack: Stack) -> AsyncIterator[Stack]:
    """The stack, up and healthy before the test and brought back to that after it."""
    settings = dict(stack.settings)
    await stack.up()
    await stack.healthy()
    yield stack
    stack.settings = settings


async def accepted(stack: Stack) -> None:
    """A lead sent now is answered with 201."""
    async with Client(stack.api_url) as client:
        answer = await client.post_lead(f"trouble-{next(numbers)}@example.com", pdf(2_000, seed=1))
    assert answer.status == 201


@asynccontextmanager
async def mails_come_once_mended(stack: Stack, mails: int = 2) -> AsyncIterator[None]:
    before = await stack.mails()
    yield
    await stack.mails_arrive(before + mails, seconds=90)


async def test_a_wrong_password_of_rabbitmq_names_its_setting_and_loses_nothing(running: Stack):
    async with mails_come_once_mended(running):
        running.settings["LEADS_BROKER_URL"] = "amqp://leads-api:wrong@rabbitmq:5672/leads"
        await running.up("api")
        await running.healthy("api")
        await accepted(running)
        line = await running.says("api", "LEADS_BROKER_URL", "refuses the user or the password")
        assert "wrong" not in line.split("refuses")[0], "the password is in no log"
        del running.settings["LEADS_BROKER_URL"]
        await running.up("api")
        await running.healthy("api")


async def test_a_queue_with_other_arguments_is_named_with_the_command_that_mends_it(running: Stack):
    async with mails_come_once_mended(running), rabbitmqs_pages(running) as pages:
        await running.compose("stop", "notifier")
        await pages("DELETE", f"/api/queues/leads/{RETRY_QUEUE}")
        await pages("PUT", f"/api/queues/leads/{RETRY_QUEUE}", {"durable": True, "arguments": {}})
        await running.up()
        await accepted(running)
        await running.says("notifier", f"rabbitmqctl delete_queue {RETRY_QUEUE}")
        await running.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "-p", "leads", "delete_queue", RETRY_QUEUE)


async def test_a_volume_of_a_later_version_is_refused_in_one_line_and_left_as_it_was(running: Stack):
    version = await of_the_database(running, "SELECT version_num FROM alembic_version")
    async with mails_come_once_mended(running):
        await accepted(running)
    await of_the_database(running, f"UPDATE alembic_version SET version_num = '{TOO_NEW}'")
    await running.compose("stop", "api")
    await running.compose("up", "-d", "--force-recreate", "init", check=False)
    await running.says("init", "leads: the databases could not be prepared", "a newer version of Leads")
    assert await of_the_database(running, "SELECT version_num FROM alembic_version") == TOO_NEW
    await of_the_database(running, f"UPDATE alembic_version SET version_num = '{version}'")
    await running.up()
    await running.healthy()
    async with mails_come_once_mended(running):
        await accepted(running)


async def test_a_refused_key_of_sendgrid_names_its_setting_and_the_mails_wait(running: Stack):
    async with sendgrid(running) as (url, received):
        running.settings |= {"SENDGRID_BASE_URL": url, "SENDGRID_API_KEY": "no-key-of-sendgrids"}
        await running.up("notifier")
        await accepted(running)
        await running.says("notifier", "SENDGRID_API_KEY")
        assert await received() == 0
        running.settings["SENDGRID_API_KEY"] = "SG.a-key-of-the-tests"
        await running.up("notifier")
        async with asyncio.timeout(90):
            while await received() < 2:
                await asyncio.sleep(0.5)
    for name in ("SENDGRID_BASE_URL", "SENDGRID_API_KEY"):
        del running.settings[name]
    await running.up()
    await running.healthy()


async def test_a_port_that_is_taken_names_its_setting_and_the_stack_comes_up_on_another(running: Stack):
    port = running.port
    async with somebody_else() as running.port:
        await running.compose("up", "-d", "api", check=False)
        await running.says("ports", f"port {running.port} of 127.0.0.1 is in use", "LEADS_API_PORT")
    running.port = port
    await running.up()
    await running.healthy()
    await accepted(running)


@asynccontextmanager
async def somebody_else() -> AsyncIterator[int]:
    """Has a port, and answers there."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    (port,) = free_ports(1)
    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield port


async def of_the_database(stack: Stack, query: str) -> str:
    """The first value that a query of the api's database gives, run beside the rooms."""
    program = (
        "import sqlite3, sys; database = sqlite3.connect('/volumes/api/leads.db', isolation_level=None);"
        "found = database.execute(sys.argv[1]).fetchone(); print('found:', found[0] if found else '')"
    )
    run = ("run", "--rm", "-T", "--no-deps", "--entrypoint", "python", "leads", "-c", program, query)
    return (await stack.compose(*run)).rpartition("found:")[2].strip()


@asynccontextmanager
async def rabbitmqs_pages(stack: Stack):
    """A call of RabbitMQ's HTTP API, signed in as its admin."""
    read = ("run", "--rm", "-T", "--no-deps", "--entrypoint", "cat", "leads", "/volumes/rabbitmq/admin_password")
    password = (await stack.compose(*read)).split()[-1]
    signed_in = {"Authorization": aiohttp.encode_basic_auth("leads-admin", password)}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{stack.ui_port}", headers=signed_in) as session:

        async def call(method: str, path: str, body: object = None) -> None:
            async with session.request(method, path, json=body) as answer:
                assert answer.status in {200, 201, 204}, await answer.text()

        yield call


@asynccontextmanager
async def sendgrid(stack: Stack):
    """The stand-in in a container beside the notifier; its URL, and a look at how many mails it has taken."""
    name = f"{stack.project}-sendgrid"
    await docker(
        *("run", "--detach", "--rm", "--name", name, "--network", f"{stack.project}_front"),
        *("--volume", f"{ROOT}/tests:/opt/leads/tests:ro", IMAGE, "tests.harness.sendgrid"),
        *("--host", "0.0.0.0", "--port", "8025"),
    )
    look = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8025/_received').read().decode())"

    async def received() -> int:
        return len(json.loads(await docker("exec", name, "python", "-c", look))["received"])

    try:
        yield f"http://{name}:8025", received
    finally:
        await docker("kill", name)
