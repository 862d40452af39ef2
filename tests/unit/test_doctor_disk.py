"""What `leads doctor` says of folders: in the way, not writable, forgetful, nearly full."""

import subprocess
from pathlib import Path

import pytest

from services.cli.doctor.disk import check_disk
from services.cli.doctor.report import State, exit_status
from tests.harness.doctor import findings_of, the_one
from tests.harness.missing import cannot_run
from tests.harness.tiny_disk import SIZE_MIB, tiny_disks

MIB = 1024 * 1024


def settings(data: Path, **more: str) -> dict[str, str]:
    return {"LEADS_DATA_DIR": str(data), **more}


async def test_a_folder_that_is_not_there_yet_is_judged_by_where_it_will_be(tmp_path):
    assert exit_status(await findings_of(check_disk, settings(tmp_path / "data" / "deep"))) == 0
    assert list(tmp_path.iterdir()) == []


async def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "data").write_text("")
    found = await the_one(check_disk, settings(tmp_path / "data" / "leads"), State.FAILED)
    assert f"LEADS_DATA_DIR: {tmp_path / 'data'} is in the way" in found.found


@pytest.mark.parametrize("setting", ["LEADS_BLOB_URL", "LEADS_MAIL_URL"])
async def test_each_folder_is_told_by_its_setting(tmp_path, setting):
    (tmp_path / "file").write_text("")
    url = (tmp_path / "file" / "folder").as_uri()
    found = await the_one(check_disk, settings(tmp_path / "data", **{setting: url}), State.FAILED)
    assert found.found.startswith(f"{setting}: ")


async def test_a_small_disk_in_memory_is_found_forgetful_and_then_too_full_and_then_read_only(tmp_path):
    disk = tmp_path / "disk"
    with tiny_disks([disk]) as trouble:
        if trouble:
            cannot_run(trouble)
        little = {"LEADS_STORAGE_MIN_FREE_BYTES": str(MIB)}
        found = await the_one(check_disk, settings(disk, **little), State.WARNING)
        assert "lies in memory: all is gone after a restart" in found.found
        found = await the_one(check_disk, settings(disk), State.FAILED)
        assert f"{SIZE_MIB} MiB are free" in found.found
        assert "LEADS_STORAGE_MIN_FREE_BYTES" in found.found
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        found = await the_one(check_disk, settings(disk, **little), State.FAILED)
        assert f"LEADS_DATA_DIR: {disk} cannot be written to." in found.found
        assert "chown" in found.mend
