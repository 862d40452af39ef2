"""The program that reads resumes: it answers, and whatever a file does to it the next one is read."""

import os
import signal
import time
from pathlib import Path

import pytest

from services.api.resume_search import reader
from services.api.resume_search.reader import ReaderBroken, ResumeReader
from tests.harness.resumes import docx_saying, pdf_saying


@pytest.fixture
async def read():
    found = ResumeReader()
    yield found
    await found.close()


def pid(read: ResumeReader) -> int:
    assert read._process is not None
    return read._process.pid


async def test_one_program_reads_one_resume_after_the_other(read: ResumeReader):
    assert await read.words_of("pdf", pdf_saying("Python at Zoë's")) == ["python", "at", "zoe", "s"]
    first = pid(read)
    assert await read.words_of("docx", docx_saying("東京 Kubernetes")) == ["東京", "kubernetes"]
    assert await read.words_of("pdf", b"%PDF-1.7 damaged") is None
    assert await read.words_of("txt", b"a" * 5_000_000) == ["a" * 40]
    assert await read.words_of("rtf", b"{\\rtf1 text}") is None
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


async def test_a_resume_that_takes_for_ever_is_given_up_and_the_next_one_read(read: ResumeReader, monkeypatch):
    await read.words_of("txt", b"x")
    monkeypatch.setattr(reader, "READ_WITHIN_SECONDS", 0.3)
    os.kill(pid(read), signal.SIGSTOP)
    began_at = time.monotonic()
    assert await read.words_of("txt", b"slow") is None
    assert time.monotonic() - began_at < 3
    monkeypatch.undo()
    assert await read.words_of("txt", b"next") == ["next"]


async def test_a_program_that_died_is_started_anew(read: ResumeReader):
    await read.words_of("txt", b"x")
    first = pid(read)
    os.kill(first, signal.SIGKILL)
    assert await read.words_of("txt", b"after") == ["after"]
    assert pid(read) != first


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
