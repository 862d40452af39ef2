"""Carries out all checks at once, each within its time, and tells what they found."""

import asyncio
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Collection
from typing import NoReturn

from services.cli.doctor.bucket import check_bucket
from services.cli.doctor.bus import check_bus
from services.cli.doctor.clock import check_clock
from services.cli.doctor.databases import check_databases, check_staff
from services.cli.doctor.disk import check_disk
from services.cli.doctor.mail import check_mail
from services.cli.doctor.patient import Patient, RoomName, meet
from services.cli.doctor.report import Finding, exit_status, failed, print_json, print_table
from services.cli.doctor.rooms import check_rooms, check_storage
from services.cli.doctor.settings import check_secrets, check_settings
from shared.observe import configure_logs

CHECK_SECONDS = 9.0
"""For each check, and so for all of them."""

Check = Callable[[Patient], list[Finding]] | Callable[[Patient], Awaitable[list[Finding]]]

CHECKS: tuple[Check, ...] = (
    check_settings,
    check_secrets,
    check_disk,
    check_bucket,
    check_databases,
    check_staff,
    check_bus,
    check_storage,
    check_rooms,
    check_mail,
    check_clock,
)
"""In the order in which one reads what they find: what others build upon comes first."""


def run(rooms: Collection[RoomName], *, as_json: bool) -> NoReturn:
    """`leads doctor`. Exits with 0 when nothing failed, else with 1."""
    configure_logs("leads", "ERROR", "auto")
    findings = asyncio.new_event_loop().run_until_complete(examine(meet(rooms)))
    (print_json if as_json else print_table)(findings)
    sys.stdout.flush()
    os._exit(exit_status(findings))  # a thread that hangs on a dead drive or a name server is not waited for


async def examine(patient: Patient) -> list[Finding]:
    """What all checks find, in their order."""
    found = await asyncio.gather(*(_carry_out(check, patient) for check in CHECKS))
    return [finding for findings in found for finding in findings]


async def _carry_out(check: Check, patient: Patient) -> list[Finding]:
    name = check.__name__.removeprefix("check_")
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            if inspect.iscoroutinefunction(check):
                findings: list[Finding] = await check(patient)
                return findings
            return await asyncio.to_thread(check, patient)  # type: ignore[arg-type]
    except TimeoutError:
        return [
            failed(name, f"There was no answer within {CHECK_SECONDS:.0f} s.", "See whether a drive or host hangs.")
        ]
    except Exception as error:  # noqa: BLE001 - one check that breaks must not hide what the others found
        # Not its text, which may hold a secret.
        return [failed(name, f"It could not be looked at ({type(error).__name__}).", "Please report this as a defect.")]
