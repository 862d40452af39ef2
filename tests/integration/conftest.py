"""Fixtures of single subjects: a database of either kind, and a site with backups."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.audit import make
from services.cli.backup import command
from tests.harness.backups import LEADS, Site
from tests.harness.deployment import ROOMS, free_ports
from tests.harness.mariadb import MISSING, MariaServer, find_mariadb
from tests.harness.missing import cannot_run

SQLITE, POSTGRESQL = "sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)
MARIADB = pytest.param("mariadb", marks=pytest.mark.mariadb)


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def either_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """As `database_url`, of both kinds that search resumes, in every run."""
    return _url_of(request, tmp_path)


@pytest.fixture(params=[SQLITE, POSTGRESQL, MARIADB])
def each_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """As `database_url`, of all kinds in every run."""
    return _url_of(request, tmp_path)


def _url_of(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == SQLITE:
        return f"sqlite:///{tmp_path / 'a.db'}"
    return str(request.getfixturevalue({"postgresql": "postgres_url", "mariadb": "maria_url"}[request.param]))


@pytest.fixture(autouse=True)
def logs_can_be_read(monkeypatch) -> None:
    """A command sets them up for its process, and other tests are to read what is logged in this one."""
    monkeypatch.setattr(command, "configure_logs", lambda *_: None)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "data"
    make(folder, LEADS)
    return folder


@pytest.fixture
def site(made: Path, tmp_path: Path, monkeypatch) -> Site:
    shutil.copytree(made, tmp_path / "data")
    for room, port in zip(ROOMS, free_ports(len(ROOMS)), strict=True):
        monkeypatch.setenv(f"LEADS_{room.upper()}_PORT", str(port))
    return Site(
        tmp_path / "data",
        tmp_path / "empty",
        tmp_path / "backups",
        lambda folder: monkeypatch.setenv("LEADS_DATA_DIR", str(folder)),
    )


@pytest.fixture
def own_maria() -> Iterator[MariaServer]:
    """A MariaDB for tests that do it harm."""
    if not find_mariadb():
        cannot_run(MISSING)
    server = MariaServer()
    yield server
    server.remove()
