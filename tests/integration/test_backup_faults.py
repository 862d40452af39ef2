"""`leads backup` and `leads restore` over what is lost, damaged or full: said in a line, and never passed on."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from bench.audit import BODY
from services.cli.backup.command import EXIT_FAILED, EXIT_NOT_WHOLE
from services.cli.backup.manifest import backups_in
from tests.harness.backups import LEADS, Site, blobs, the_line
from tests.harness.missing import cannot_run
from tests.harness.tiny_disk import SIZE_MIB, tiny_disks


def test_a_resume_that_is_lost_is_named_and_comes_from_an_earlier_backup_where_there_is_one(site: Site, capsys):
    lost, damaged = list(blobs(site.data))[:2]
    assert site.backup() == 0
    (site.data / "resumes" / lost).unlink()
    assert site.backup() == 0
    assert lost in blobs(backups_in(site.backups)[0])

    shutil.rmtree(site.backups)
    (site.data / "resumes" / damaged).write_bytes(BODY.swapcase())
    capsys.readouterr()
    assert site.backup(keep=1) == EXIT_NOT_WHOLE
    said = capsys.readouterr().err
    assert f"{lost} is missing" in said
    assert f"{damaged} has other bytes" in said
    assert site.restore() == EXIT_NOT_WHOLE
    assert len(blobs(site.empty)) == LEADS - 2


def loop(path: Path) -> None:
    """It cannot be opened."""
    path.unlink()
    path.symlink_to(path)


def unreadable(path: Path) -> None:
    """It can be opened, and every read fails: a folder, to whoever takes it for a file."""
    path.unlink()
    path.mkdir()


def test_a_resume_that_cannot_be_read_is_named_and_all_others_are_backed_up_and_restored(site: Site, capsys):
    first, second, third, fourth = sorted(blobs(site.data))[:4]
    loop(site.data / "resumes" / first)
    unreadable(site.data / "resumes" / second)
    assert site.backup(keep=1) == EXIT_NOT_WHOLE
    (backup,) = backups_in(site.backups)
    assert sorted(capsys.readouterr().err.splitlines()) == [
        f"leads: {site.data}/resumes/{first} cannot be read ({os.strerror(errno.ELOOP)}), and is not in the backup",
        f"leads: {site.data}/resumes/{second} cannot be read ({os.strerror(errno.EISDIR)}), and is not in the backup",
    ]
    assert {path.name for path in (backup / "resumes").iterdir()} == set(blobs(site.data))

    loop(backup / "resumes" / third)
    unreadable(backup / "resumes" / fourth)
    assert site.restore() == EXIT_NOT_WHOLE
    said = capsys.readouterr().err
    assert f"{third} cannot be read ({os.strerror(errno.ELOOP)}), and is not restored" in said
    assert f"{fourth} cannot be read ({os.strerror(errno.EISDIR)}), and is not restored" in said
    assert len(blobs(site.empty)) == LEADS - 4
    assert list((site.empty / "resumes" / ".incoming").iterdir()) == []


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def from_tomorrow(manifest: Path) -> None:
    manifest.write_text(manifest.read_text().replace("0002_cuts", "9999_of_tomorrow"))


def test_what_decayed_in_one_backup_is_copied_anew_into_the_next(site: Site, capsys):
    decayed, looped, unread, lost = list(blobs(site.data))[:4]
    assert site.backup() == 0
    (first,) = backups_in(site.backups)
    for spoil, name in ((flip, decayed), (loop, looped), (unreadable, unread), (flip, lost)):
        spoil(first / "resumes" / name)
    assert site.backup() == 0
    assert blobs(backups_in(site.backups)[0]) == blobs(site.data)

    shutil.rmtree(backups_in(site.backups)[0])
    (site.data / "resumes" / lost).unlink()
    capsys.readouterr()
    assert site.backup() == EXIT_NOT_WHOLE
    assert f"{lost} is missing, and is not in the backup" in the_line(capsys)
    assert blobs(backups_in(site.backups)[0]) == blobs(site.data)


SPOILT = {
    "leads.db": (flip, "is not as it was taken"),
    "notifier.db": (Path.unlink, "No such file"),
    "manifest.json": (Path.unlink, "is no whole backup"),
    "manifest.json ": (lambda path: path.write_text("{"), "cannot be read"),
    "manifest.json  ": (from_tomorrow, "was written by a newer version of Leads"),
}


@pytest.mark.parametrize("file", SPOILT)
def test_a_backup_that_is_not_as_it_was_is_refused_in_one_line(site: Site, capsys, file: str):
    spoil, said = SPOILT[file]
    site.backup()
    (backup,) = backups_in(site.backups)
    spoil(backup / file.strip())
    assert site.restore(backup) == EXIT_FAILED
    assert said in the_line(capsys)
    assert not site.empty.exists()


def test_a_damaged_database_makes_no_backup_and_drops_none(site: Site, capsys):
    site.backup()
    before = backups_in(site.backups)
    with (site.data / "leads.db").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 8192)
    assert site.backup(keep=1) == EXIT_FAILED
    assert f"{site.data / 'leads.db'} is damaged" in the_line(capsys)
    assert backups_in(site.backups) == before
    assert list(site.backups.glob("*.partial")) == []


@pytest.mark.parametrize("free_kib", [64, 4096], ids=["at the database", "at the resumes"])
def test_a_full_disk_is_one_line_and_leaves_nothing(site: Site, capsys, free_kib: int):
    with (site.data / "resumes" / next(iter(blobs(site.data)))).open("r+b") as file:
        file.truncate(SIZE_MIB * 1024 * 1024)
    with tiny_disks([site.backups]) as trouble:
        if trouble:
            cannot_run(trouble)
        filler = site.backups / "filler"
        filler.write_bytes(bytes(SIZE_MIB * 1024 * 1024 - free_kib * 1024))
        assert site.backup() == EXIT_FAILED
        line = the_line(capsys)
        assert f"leads: {site.backups}" in line
        assert "No space left on device" in line
        assert {path.name for path in site.backups.iterdir()} == {".lock", "filler"}
