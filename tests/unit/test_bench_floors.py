"""The floors do what they say they do, on a real disk: they would be no floors otherwise."""

import sqlite3
from pathlib import Path

from bench.floors.asgi import app
from bench.floors.disk import commits_per_second, files_per_second
from bench.floors.script import intake_per_second, parse
from tests.harness.asgi import lead_form, post_form
from tests.harness.files import pdf


def test_the_script_finds_the_fields_of_a_form():
    resume = pdf(10_000)
    fields = parse(lead_form("ann@bench.example", resume))
    assert fields == {"first_name": b"Ann", "last_name": b"Lee", "email": b"ann@bench.example", "resume": resume}


def test_the_script_keeps_a_file_and_a_row_for_each_lead(tmp_path: Path):
    assert intake_per_second(tmp_path, seconds=0.2) > 0
    files = {path.name: path.stat().st_size for path in (tmp_path / "resumes").iterdir()}
    rows = sqlite3.connect(tmp_path / "script.db").execute("SELECT resume_path FROM leads").fetchall()
    assert {name for (name,) in rows} == files.keys()
    assert set(files.values()) == {65_536}


def test_files_and_commits_are_counted(tmp_path: Path):
    assert files_per_second(tmp_path, seconds=0.1) > 0
    assert not [path for path in (tmp_path / "files").iterdir() if path.name.startswith(".")]
    assert commits_per_second(tmp_path, seconds=0.1) > 0


async def test_the_bare_app_reads_a_body_and_streams_as_many_bytes_as_are_asked_for():
    assert (await post_form(app, "/", "ann@bench.example"))[0] == 201
    sent = []

    async def send(message):
        sent.append(message)

    await app({"type": "http", "method": "GET", "path": "/150000"}, None, send)
    assert sent[0]["headers"] == [(b"content-length", b"150000")]
    assert sum(len(message["body"]) for message in sent[1:]) == 150_000
    assert not sent[-1].get("more_body")
