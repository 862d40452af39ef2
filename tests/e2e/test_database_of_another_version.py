"""A volume that this Leads cannot work with is one line and no loop of restarts, and is left as it was."""

import os
import sqlite3
from pathlib import Path

import pytest
import pytest_asyncio

from tests.harness.commands import leads
from tests.harness.deployment import STOP_SECONDS, Deployment
from tests.harness.doctor import prepared

pytestmark = pytest.mark.long

NEWER = "9999_of_tomorrow"


@pytest_asyncio.fixture
async def deployment(tmp_path: Path):
    deployment = Deployment(tmp_path)
    await prepared(deployment.data)
    yield deployment
    deployment.end()


def execute(path: Path, statement: str) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(path)
    rows = connection.execute(statement).fetchall()
    connection.commit()
    connection.close()
    return rows


def from_tomorrow(path: Path) -> None:
    execute(path, f"UPDATE alembic_version SET version_num = '{NEWER}'")


def of_something_else(path: Path) -> None:
    execute(path, "DROP TABLE alembic_version")


def of_no_kind(path: Path) -> None:
    path.write_bytes(b"no database at all " * 500)


API = ("api", "leads.db", "LEADS_DATABASE_URL")
NOTIFIER = ("notifier", "notifier.db", "LEADS_NOTIFIER_DATABASE_URL")


@pytest.mark.parametrize(
    ("where", "spoil", "said"),
    [
        (API, from_tomorrow, f"was written by a newer version of Leads (schema {NEWER}"),
        (NOTIFIER, from_tomorrow, f"was written by a newer version of Leads (schema {NEWER}"),
        (API, of_something_else, "it was not made by Leads"),
        (NOTIFIER, of_no_kind, "is not a file of Leads"),
    ],
)
async def test_a_room_says_it_in_one_line_and_that_trying_again_is_no_use(deployment, where, spoil, said):
    room, file, setting = where
    path = deployment.data / file
    spoil(path)
    before = path.read_bytes()
    deployment.launch(room)
    assert deployment.processes[room].wait(STOP_SECONDS) == os.EX_CONFIG
    (line,) = deployment.log(room)
    assert line["level"] == "error"
    assert line["event"].startswith(f"{setting}: {path} ")
    assert said in line["event"]
    assert path.read_bytes() == before


async def test_leads_up_ends_with_it(deployment):
    assert (await leads(deployment, "init")).status == 0
    from_tomorrow(deployment.data / "leads.db")
    ended = await leads(deployment, "up")
    assert ended.status == os.EX_CONFIG
    assert (ended.output + ended.errors).count(NEWER) == 1
    assert "Traceback" not in ended.output + ended.errors
