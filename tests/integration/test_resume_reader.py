"""The program that reads resumes: it answers, and whatever a file does to it the next one is read."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from services.api.resume_search import reader
from services.api.resume_search.reader import ReaderBroken, ReaderDied, ResumeReader
from tests.harness.deployment import ROOT
from tests.harness.resumes import docx_saying, pdf_saying

ENDLESS = """
import time
from services.api.resume_search import texts
texts.SECONDS_OF_ONE = 0.3
texts._READERS = {**texts._READERS, "txt": lambda body: iter(lambda: "", None)}
texts.main()
"""


@pytest.fixture
async def read():
    found = ResumeReader()
    yield found
    await found.close()


def pid(read: ResumeReader) -> int:
    assert read._process is not None
    return read._process.pid


def another_program(monkeypatch, folder: Path, text: str) -> None:
    """In place of the one that reads."""
    (folder / "another_program.py").write_text(text)
    monkeypatch.setattr(reader, "PROGRAM", "another_program")
    monkeypatch.setattr(reader, "_ROOT", f"{folder}:{ROOT}")


async def test_one_program_reads_one_resume_after_the_other(read: ResumeReader):
    assert await read.words_of("pdf", pdf_saying("Python at Zoë's")) == ["python", "at", "zoe", "s"]
    first = pid(read)
    assert await read.words_of("docx", docx_saying("東京 Kubernetes")) == ["東京", "kubernetes"]
    assert await read.words_of("pdf", b"%PDF-1.7 damaged") is None
    assert await read.words_of("txt", b"a" * 5_000_000) == ["a" * 40]
    assert pid(read) == first


async def test_it_has_no_secret_no_file_to_write_and_bounds_on_memory(read: ResumeReader, monkeypatch):
    monkeypatch.setenv("LEADS_JWT_SECRET", "a-secret-of-the-tests")
    await read.words_of("txt", b"x")
    process = Path(f"/proc/{pid(read)}")
    assert b"LEADS" not in (process / "environ").read_bytes()
    limits = (process / "limits").read_text().splitlines()
    bounds = {line[:26].strip(): line[26:].split()[0] for line in limits}
    assert (bounds["Max address space"], bounds["Max file size"]) == (str(1024**3), "0")
    assert os.getpriority(os.PRIO_PROCESS, pid(read)) == 19


async def test_a_resume_that_takes_for_ever_ends_the_program_by_itself(read: ResumeReader, monkeypatch, tmp_path):
    """By its own processor time: also where the api that started it is gone."""
    another_program(monkeypatch, tmp_path, ENDLESS)
    began_at = time.monotonic()
    with pytest.raises(ReaderDied):
        await read.words_of("txt", b"slow")
    assert time.monotonic() - began_at < 20
    monkeypatch.undo()
    assert await read.words_of("txt", b"next") == ["next"]


@pytest.mark.long
async def test_a_program_that_stands_still_is_given_up(read: ResumeReader, monkeypatch):
    await read.words_of("txt", b"x")
    monkeypatch.setattr(reader, "READ_WITHIN_SECONDS", 2.0)
    os.kill(pid(read), signal.SIGSTOP)
    assert await read.words_of("txt", b"asked again of another") == ["asked", "again", "of", "another"]


async def test_a_program_that_died_is_started_anew(read: ResumeReader):
    await read.words_of("txt", b"x")
    first = pid(read)
    os.kill(first, signal.SIGKILL)
    assert await read.words_of("txt", b"after") == ["after"]
    assert pid(read) != first


@pytest.mark.parametrize(
    "answer", ['b"[1]\\n"', 'b"not json\\n"', 'b"[\\"cut"', 'b"{}\\n"', 'b"x" * 9_000_000', 'b""', 'b"\\xff\\n"']
)
async def test_whatever_a_hijacked_program_answers_is_nobodys_words(
    read: ResumeReader, monkeypatch, tmp_path, answer: str
):
    said = "import sys\nout = sys.stdout.buffer\nout.write(b'ready\\n'); out.flush()\nsys.stdin.buffer.readline()\n"
    another_program(monkeypatch, tmp_path, f"{said}out.write({answer}); out.flush()\n")
    with pytest.raises(ReaderDied):
        await read.words_of("txt", b"x" * 100_000)


async def test_after_many_files_another_program_goes_on(read: ResumeReader, monkeypatch):
    monkeypatch.setattr(reader, "READ_BY_ONE", 2)
    pids = set()
    for _ in range(3):
        assert await read.words_of("txt", b"word") == ["word"]
        pids.add(read._process and read._process.pid)
    assert None in pids  # ended after its second


async def test_a_machine_that_cannot_start_it_is_no_fault_of_the_resume(read: ResumeReader, monkeypatch):
    monkeypatch.setattr(reader, "PROGRAM", "no.such.program")
    with pytest.raises(ReaderBroken):
        await read.words_of("txt", b"x")
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ReaderBroken):
        await read.words_of("txt", b"x")


def test_the_api_itself_loads_no_parser():
    """What strangers send is parsed in the other program alone."""
    import subprocess

    asked = "import sys, services.api.main; print('pypdf' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
