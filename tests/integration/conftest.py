"""Fixtures of single subjects: a database of either kind, and a site with backups."""

import shutil
from pathlib import Path

import pytest

from bench.audit import make
from services.cli.backup import command
from tests.harness.backups import LEADS, Site
from tests.harness.deployment import ROOMS, free_ports


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def either_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """As `database_url`, of both kinds in every run."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'a.db'}"
    return str(request.getfixturevalue("postgres_url"))


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
