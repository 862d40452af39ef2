"""`leads audit`, wired: the stores by their settings, the form of the report, the exit status."""

import asyncio
import sqlite3
import sys
from datetime import UTC, datetime

from services.api.settings import ApiSettings
from services.api.tables import AuditRun
from services.cli.audit.findings import Totals
from services.cli.audit.ledger import Ledger
from services.cli.audit.reconcile import Audit
from services.cli.audit.report import JsonReport, TextReport
from services.cli.audit.stores import CannotAudit, Settings, opened
from services.notifier.settings import NotifierSettings
from services.storage.settings import StorageSettings
from shared.ids import new_id
from shared.observe import configure_logs
from shared.settings import SettingsError, load

EXIT_DISCREPANCIES = 1
EXIT_CANNOT_AUDIT = 2


def run(*, deep: bool, fix: bool, as_json: bool) -> int:
    """The exit status: 0 everything adds up, 1 something does not, 2 it could not be looked at."""
    configure_logs("leads", "CRITICAL", "auto")  # what goes wrong is one line on stderr; stdout is the report's
    try:
        settings = Settings(load(ApiSettings), load(NotifierSettings), load(StorageSettings))
        totals = asyncio.run(_audit(settings, deep=deep, fix=fix, as_json=as_json))
    except (CannotAudit, SettingsError) as error:
        sys.stderr.write(f"leads: {error}\n")
        return EXIT_CANNOT_AUDIT
    except sqlite3.Error as error:  # the ledger's: those of the stores come as the above
        sys.stderr.write(f"leads: TMPDIR: the audit cannot keep its temporary file ({error})\n")
        return EXIT_CANNOT_AUDIT
    return EXIT_DISCREPANCIES if totals.discrepancies else 0


async def _audit(settings: Settings, *, deep: bool, fix: bool, as_json: bool) -> Totals:
    report = JsonReport() if as_json else TextReport()
    started_at = datetime.now(UTC)
    async with opened(settings) as stores:
        with Ledger() as ledger:
            audit = Audit(stores, settings, ledger, report, deep=deep, fix=fix)
            await audit.run()
        await stores.keep(_result(started_at, audit.totals))
    report.summary(audit.totals)
    return audit.totals


def _result(started_at: datetime, totals: Totals) -> AuditRun:
    return AuditRun(
        id=new_id(),
        started_at=started_at,
        finished_at=datetime.now(UTC),
        leads_checked=totals.leads,
        discrepancies=totals.discrepancies,
    )
