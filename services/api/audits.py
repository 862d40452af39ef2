"""The latest result of `leads audit` as metrics of the api: the command itself is gone before anybody could ask it."""

import asyncio

import structlog

from services.api import store
from shared.database import Database, as_utc
from shared.metrics import AUDIT_DISCREPANCIES, AUDIT_LAST_RUN, AUDIT_LEADS_CHECKED
from shared.problems import Problem

READ_EVERY_SECONDS = 15.0
"""As often as Prometheus asks by habit; one row each time."""

log = structlog.get_logger()


async def keep_measured(database: Database) -> None:
    """Set the gauges of the audit now and then, until cancelled."""
    while True:
        try:
            await measure(database)
        except Problem as problem:
            log.warning("audit metrics not refreshed", reason=problem.detail)
        await asyncio.sleep(READ_EVERY_SECONDS)


async def measure(database: Database) -> None:
    """Set the gauges from the latest run; they stay 0 while there was none. Raises `Problem`."""
    run = await database.read(store.latest_audit_run)
    if run is None:
        return
    AUDIT_LAST_RUN.set(as_utc(run.finished_at).timestamp())
    AUDIT_DISCREPANCIES.set(run.discrepancies)
    AUDIT_LEADS_CHECKED.set(run.leads_checked)
