"""The bucket that resumes are kept in: reached, and able to do each thing that the storage asks of it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import obstore
from obstore.exceptions import AlreadyExistsError

from services.cli.doctor.patient import Patient
from services.cli.doctor.report import Finding, failed, ok, warning
from services.storage.buckets import TROUBLES, Bucket, bucket_of, is_bucket_missing, trouble_of
from shared.ids import new_id
from shared.settings import SettingsError

APART_SECONDS = 60
"""The grace of what is swept is reckoned by both clocks."""

CALL_SECONDS = 5.0

_LOOK = "See that the bucket can be reached from here, and the storage's log."


async def check_bucket(patient: Patient) -> list[Finding]:
    """Puts a small object of its own, puts it again, reads, lists and deletes it. Nothing where there is a folder."""
    if patient.storage is None:
        return []
    try:
        if not patient.storage.bucket_url:
            return []
        bucket = bucket_of(patient.storage)
    except SettingsError as error:
        return [failed("bucket", str(error), "Correct LEADS_BLOB_URL.")]
    return await _try_out(bucket, patient.storage.blob_url)


async def _try_out(bucket: Bucket, url: str) -> list[Finding]:
    probe = f".probe-{new_id()}"
    steps: tuple[tuple[str, Callable[[], Awaitable[Finding | None]]], ...] = (
        ("write to", lambda: _write(bucket, probe)),
        ("keep what is in", lambda: _write_again(bucket, probe, url)),
        ("read from", lambda: _read(bucket, probe, url)),
        ("list", lambda: _list(bucket, probe, url)),
        ("delete from", lambda: _delete(bucket, probe)),
    )
    found: list[Finding] = []
    for what, step in steps:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                said = await step()
        except TROUBLES as error:
            trouble = trouble_of(error)
            mend = f"{trouble.advice[:1].upper()}{trouble.advice[1:]}." if trouble.advice else _LOOK
            return [*found, failed("bucket", f"The storage cannot {what} {url}: {trouble}.", mend)]
        if said is not None:
            found.append(said)
    return found or [ok("bucket", f"{url} can be written to, read, listed and deleted from")]


async def _write(bucket: Bucket, probe: str) -> None:
    await obstore.put_async(bucket, probe, b"writable", mode="create", use_multipart=False)


async def _write_again(bucket: Bucket, probe: str, url: str) -> Finding | None:
    try:
        await _write(bucket, probe)
    except AlreadyExistsError:
        return None
    told = f"{url} lets what is there be overwritten: it does not know If-None-Match."
    return failed("bucket", told, "Use a store that does; for some, AWS_CONDITIONAL_PUT says how.")


async def _read(bucket: Bucket, probe: str, url: str) -> Finding | None:
    found = await obstore.get_async(bucket, probe)
    apart = (found.meta["last_modified"] - datetime.now(UTC)).total_seconds()
    if bytes(await found.bytes_async()) != b"writable":
        return failed("bucket", f"{url} gives back other bytes than were put.", "Use another store.")
    if abs(apart) <= APART_SECONDS:
        return None
    which = "ahead of" if apart > 0 else "behind"
    told = f"The clock of {url} is {abs(apart):.0f} s {which} this machine's."
    return warning("bucket", told, "Let the machine keep its time (chrony or systemd-timesyncd).")


async def _list(bucket: Bucket, probe: str, url: str) -> Finding | None:
    async for batch in obstore.list(bucket, offset=probe[:-1]):
        if probe in {one["path"] for one in batch}:
            return None
    return failed("bucket", f"{url} does not list what was just put.", "Use a store that is strongly consistent.")


async def _delete(bucket: Bucket, probe: str) -> None:
    try:
        await obstore.delete_async(bucket, probe)
    except FileNotFoundError as error:
        if is_bucket_missing(error):
            raise
