"""What `leads doctor` says of a bucket, on a real S3 server; and what a backup says where there is one."""

import obstore
import pytest
from obstore.store import S3Store

from services.cli.backup.command import EXIT_FAILED, run_backup, run_restore
from services.cli.doctor import bucket
from services.cli.doctor.bucket import check_bucket
from services.cli.doctor.disk import check_disk
from services.cli.doctor.report import State
from services.cli.doctor.settings import check_settings
from shared.ids import new_id
from tests.harness.doctor import findings_of, prepared, the_one
from tests.harness.s3 import S3Server


@pytest.fixture
def settings(tmp_path, s3_server: S3Server) -> dict[str, str]:
    name = f"bucket-{new_id()}"
    s3_server.make_bucket(name)
    return {"LEADS_DATA_DIR": str(tmp_path), **s3_server.settings(name)}


async def test_a_bucket_that_does_all_it_must_is_well_and_nothing_is_left_in_it(settings):
    found = await the_one(check_bucket, settings, State.OK)
    assert found.found.startswith(settings["LEADS_BLOB_URL"])
    look = S3Store.from_url(
        settings["LEADS_BLOB_URL"],
        endpoint=settings["AWS_ENDPOINT_URL"],
        access_key_id="any",
        secret_access_key="any",
        client_options={"allow_http": True},
    )
    assert obstore.list(look).collect() == []


async def test_where_resumes_are_in_a_bucket_no_folder_is_looked_at_for_them(settings):
    assert {finding.state for finding in await findings_of(check_disk, settings)} == {State.OK}
    assert {finding.state for finding in await findings_of(check_settings, settings)} == {State.OK}
    assert await findings_of(check_bucket, {"LEADS_DATA_DIR": settings["LEADS_DATA_DIR"]}) == []


@pytest.mark.parametrize(
    ("wrong", "found", "mend"),
    [
        ({"LEADS_BLOB_URL": "s3://not-there/leads"}, "there is no such bucket", "Make it, or correct LEADS_BLOB_URL."),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "the bucket cannot be used", "can be reached from here"),
        ({"LEADS_BLOB_URL": "s3://x"}, "must name a bucket", "Correct LEADS_BLOB_URL."),
    ],
    ids=["no bucket", "no server", "no name"],
)
async def test_a_bucket_that_cannot_be_used_is_one_line_with_what_to_do(settings, wrong, found, mend):
    one = await the_one(check_bucket, {**settings, **wrong}, State.FAILED)
    assert found in one.found
    assert mend in one.mend
    assert settings["AWS_SECRET_ACCESS_KEY"] not in one.found


async def test_a_key_that_is_refused_is_told_of(settings, s3_server: S3Server):
    s3_server.check_keys(after_calls=0)
    try:
        found = await the_one(check_bucket, settings, State.FAILED)
    finally:
        s3_server.check_keys(after_calls=10**9)
    assert "cannot write to" in found.found
    assert found.mend == "Correct the access key."


async def test_a_store_that_overwrites_what_is_there_is_found_out(settings, monkeypatch):
    """As one that heeds no `If-None-Match`: here the condition is left out."""
    real = obstore.put_async

    async def without_condition(store, path, body, *, mode=None, **options):
        return await real(store, path, body, **options)

    monkeypatch.setattr(bucket.obstore, "put_async", without_condition)
    found = await the_one(check_bucket, settings, State.FAILED)
    assert "does not know If-None-Match" in found.found


async def test_a_secret_of_the_cloud_may_come_from_a_file(settings, tmp_path):
    key = tmp_path / "key"
    key.write_text(settings.pop("AWS_SECRET_ACCESS_KEY") + "\n")
    key.chmod(0o600)
    await the_one(check_bucket, {**settings, "AWS_SECRET_ACCESS_KEY_FILE": str(key)}, State.OK)
    gone = await findings_of(check_settings, {**settings, "AWS_SECRET_ACCESS_KEY_FILE": str(tmp_path / "gone")})
    assert [finding.found for finding in gone if finding.state is State.FAILED] == [
        f"AWS_SECRET_ACCESS_KEY_FILE: {tmp_path / 'gone'} cannot be read (No such file or directory)."
    ]


async def test_a_backup_and_a_restore_refuse_a_bucket_in_one_line(settings, tmp_path, monkeypatch, capsys):
    await prepared(tmp_path)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for run in (lambda: run_backup(tmp_path / "backups", None), lambda: run_restore(tmp_path / "backups")):
        assert run() == EXIT_FAILED
        said = capsys.readouterr().err
        assert said == (
            "leads: LEADS_BLOB_URL names a bucket, which is not copied: "
            "turn on its versioning, and see docs/backup.md.\n"
        )
    assert not (tmp_path / "backups").exists()
