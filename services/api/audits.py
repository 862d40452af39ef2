"""The latest result of `leads audit` as metrics of the api: the command itself is gone before anybody could ask it."""

from services.api import store
from shared.database import Database, as_utc
from shared.metrics import AUDIT_DISCREPANCIES, AUDIT_LAST_RUN, AUDIT_LEADS_CHECKED


async def measure(database: Database) -> None:
    """Set the gauges from the latest run; they stay 0 while there was none. Raises `Problem`."""
    run = await database.read(store.latest_audit_run)
    if run is None:
        return
    AUDIT_LAST_RUN.set(as_utc(run.finished_at).timestamp())
    AUDIT_DISCREPANCIES.set(run.discrepancies)
    AUDIT_LEADS_CHECKED.set(run.leads_checked)
