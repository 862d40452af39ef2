"""`leads backup` and `leads restore`, wired: places by the settings, what is printed, the exit status."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from services.api.settings import ApiSettings
from services.cli.backup.places import BackupFailed, Places
from services.cli.backup.restore import restore
from services.cli.backup.take import drop_older, take
from services.notifier.settings import NotifierSettings
from services.storage.settings import StorageSettings
from shared.observe import configure_logs
from shared.problems import Problem
from shared.settings import CannotStart, load

EXIT_NOT_WHOLE = 1
"""It was done, but for the resumes that have a line each."""

EXIT_FAILED = 2

MIB = 1024 * 1024


def run_backup(folder: Path, keep: int | None) -> int:
    """The exit status."""
    return _run(lambda places, _api, _notifier: _backup(places, folder, keep))


def run_restore(backup: Path) -> int:
    """The exit status."""
    return _run(lambda places, api, notifier: _restore(places, api, notifier, backup))


def _run(work: Callable[[Places, ApiSettings, NotifierSettings], Sequence[str]]) -> int:
    """`work` prints what it did and answers with the faults it met."""
    configure_logs("leads", "CRITICAL", "auto")  # what goes wrong is one line on stderr
    try:
        api, notifier = load(ApiSettings), load(NotifierSettings)
        faults = work(Places.of(api, notifier, load(StorageSettings)), api, notifier)
    except (BackupFailed, CannotStart) as error:
        sys.stderr.write(f"leads: {error}\n")
        return EXIT_FAILED
    except Problem as problem:  # the words are for callers of the api: what the database said stands behind it
        cause = problem.__cause__
        sys.stderr.write(f"leads: {getattr(cause, 'orig', None) or cause or problem.detail}\n")
        return EXIT_FAILED
    for fault in faults:
        sys.stderr.write(f"leads: {fault}\n")
    return EXIT_NOT_WHOLE if faults else 0


def _backup(places: Places, folder: Path, keep: int | None) -> Sequence[str]:
    began_at = time.monotonic()
    taken = take(places, folder)
    seconds = time.monotonic() - began_at
    print(
        f"{taken.leads:,} leads, {taken.resumes:,} resumes ({_mib(taken.resumes_bytes)}, of them "
        f"{_mib(taken.new_bytes)} new), databases of {_mib(taken.databases_bytes)}, in {seconds:.1f} s: {taken.folder}"
    )
    if keep is not None and not taken.faults:  # an older one may have what this one has not
        dropped = drop_older(taken.folder, keep)
        print(f"{dropped} older dropped.")
    return taken.faults


def _restore(places: Places, api: ApiSettings, notifier: NotifierSettings, backup: Path) -> Sequence[str]:
    began_at = time.monotonic()
    restored = asyncio.run(restore(places, api, notifier, backup))
    seconds = time.monotonic() - began_at
    taken_at = f"{restored.manifest.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    print(f"{restored.manifest.leads:,} leads as of {taken_at}, {restored.resumes:,} resumes, in {seconds:.1f} s.")
    if restored.doubts.events:
        print(
            f"{restored.doubts.emails:,} e-mails of {restored.doubts.events:,} leads may have been sent since: "
            "they are uncertain, and are sent at the next start."
        )
    print("Start Leads, then see that all adds up: leads audit --deep")
    return restored.faults


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:,.1f} MiB"
