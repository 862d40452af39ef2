"""The audit itself: everything is looked at once, and what does not add up a second time before it is reported.

Rooms go on working meanwhile, and no two stores are read in the same moment. What moves is something else at the second
look; what is wrong is still wrong.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from services.api.orphans import COMMITTED_WITHIN_SECONDS, why_leads_are_missing
from services.api.store import count_leads, known_paths, known_paths_for_good
from services.cli.audit.findings import WITHOUT_LEAD, Finding, FindingKind, Totals
from services.cli.audit.judge import Judgement, judge, lost
from services.cli.audit.ledger import Ledger
from services.cli.audit.queue import why_lost
from services.cli.audit.records import Record, Records
from services.cli.audit.report import Report
from services.cli.audit.stores import Settings, Stores
from services.storage.blobs import BlobFacts
from shared.bus import QueueStats
from shared.outbox import EVENTS_KEPT

LOOK_AGAIN_SECONDS = 2.0
"""Between the two looks: longer than a lead takes from its commit to the bus, or from the bus to a consumer's hands."""

SAMPLE_SECONDS = 0.4
"""A message that moves from one queue to another may be missed by a count, not by several."""


SWEEP_SLACK_SECONDS = 60.0
"""What a sweep itself may take. An orphan is news only once the api should have swept it."""


class Audit:
    """One run over all stores. Raises `CannotAudit` when one of them cannot be read."""

    def __init__(
        self, stores: Stores, settings: Settings, ledger: Ledger, report: Report, *, deep: bool, fix: bool
    ) -> None:
        self.totals = Totals()
        self._stores = stores
        self._records = Records(stores, deep=deep)
        self._ledger = ledger
        self._report = report
        self._fix = fix
        self._grace = timedelta(seconds=settings.api.unclaimed_seconds)
        self._swept_within = timedelta(seconds=2 * settings.api.sweep_interval_seconds + SWEEP_SLACK_SECONDS)
        self._notifier_concurrency = settings.notifier.concurrency
        self._forgotten_before = datetime.now(UTC) - EVENTS_KEPT
        self._leads_are_gone = False
        """Whether something tells of leads that do not exist: then a resume is no orphan of a crash, but what is left.

        An event or an e-mail tells, and so does what the api's own sweep goes by.
        """

    async def run(self) -> None:
        """Look, look again, and report what does not add up."""
        leads = await self._stores.read_api(count_leads)
        with self._report.progress("leads", leads) as advance:
            async for records in self._records.pages():
                self._first_look(records)
                advance(sum(record.lead is not None for record in records))
        with self._report.progress("resumes", leads) as advance:
            async for blob_ids in self._stores.blob_ids():
                await self._look_for_orphans(blob_ids)
                advance(len(blob_ids))
        looked_at = time.monotonic()
        stats = await self._look_at_queue()
        await self._second_look()
        self._settle_owed(stats)
        await self._report_orphans(looked_at)

    def _first_look(self, records: list[Record]) -> None:
        suspects = []
        for record in records:
            judgement = self._judge(record)
            self._count(record, judgement)
            if judgement.findings or judgement.owed:
                suspects.append((record.lead_id, judgement.owed))
        if suspects:
            self._ledger.suspect(suspects)

    def _count(self, record: Record, judgement: Judgement) -> None:
        self.totals.leads += record.lead is not None
        self.totals.events += len(record.events)
        self.totals.waiting_in_outbox += judgement.in_outbox
        for email in record.emails:
            self.totals.emails[email.state] += 1

    async def _look_for_orphans(self, blob_ids: Sequence[str]) -> None:
        self.totals.blobs += len(blob_ids)
        known = await self._stores.read_api(partial(known_paths, paths=blob_ids))
        without_lead = [blob_id for blob_id in blob_ids if blob_id not in known]
        if without_lead:
            self._ledger.orphan(without_lead)

    async def _look_at_queue(self) -> list[QueueStats]:
        """Between the looks: what was owed before this and is after it had its message on the bus all along."""
        stats = [await self._stores.queue_stats()]
        async for event_ids in self._stores.queue_listing():
            self._ledger.seen_on_bus(event_ids)
        for _ in range(round(LOOK_AGAIN_SECONDS / SAMPLE_SECONDS)):
            await asyncio.sleep(SAMPLE_SECONDS)
            stats.append(await self._stores.queue_stats())
        self.totals.dead = stats[-1].dead
        return stats

    async def _second_look(self) -> None:
        for suspects in self._ledger.suspects():
            owed = []
            for record in await self._records.of(list(suspects)):
                judgement = self._judge(record)
                self._report_all(judgement.findings)
                was_owed, was_seen = suspects[record.lead_id]
                if judgement.owed and was_owed and not was_seen:
                    owed.append((record.lead_id, judgement.owed))
                self.totals.waiting_on_bus += judgement.owed is not None and was_seen
            if owed:
                self._ledger.owe(owed)

    def _settle_owed(self, stats: list[QueueStats]) -> None:
        count, heard_at = self._ledger.count_owed()
        why = self._why_lost(count, heard_at, stats)
        if why is None:
            self.totals.waiting_on_bus += count
            return
        for page in self._ledger.owed():
            self._report_all(lost(lead_id, owed, why) for lead_id, owed in page)

    def _why_lost(self, count: int, heard_at: datetime | None, stats: list[QueueStats]) -> str | None:
        """Why the leads that are owed e-mails do not wait for them; None when they may."""
        if self._stores.queue_can_be_listed:
            return "its event is in no queue"
        now = datetime.now(UTC)
        return why_lost(count, heard_at, stats, in_hand_each=self._notifier_concurrency, now=now)

    async def _report_orphans(self, looked_at: float) -> None:
        newest_lead = await self._stores.newest_lead()
        judge = partial(why_leads_are_missing, orphans=self._ledger.count_orphans(), newest_lead=newest_lead)
        self._leads_are_gone |= await self._stores.read_api(judge) is not None
        before = datetime.now(UTC) - self._grace - (timedelta() if self._removes_orphans else self._swept_within)
        for blob_ids in self._ledger.orphans():
            known = await self._stores.read_api(partial(known_paths, paths=blob_ids))
            found = await self._stores.blobs([blob_id for blob_id in blob_ids if blob_id not in known])
            old = [blob_id for blob_id, facts in found.items() if facts.stored_at < before]
            self.totals.blobs_in_flight += len(found) - len(old)
            if self._removes_orphans and old:
                old = await self._without_lead_for_long(old, looked_at)
                await self._stores.remove_blobs(old)
            self._report_all(self._orphan(found[blob_id]) for blob_id in old)

    async def _without_lead_for_long(self, blob_ids: Sequence[str], looked_at: float) -> list[str]:
        """Those that still are once any lead would be committed: how old they are depends on clocks that jump."""
        await asyncio.sleep(looked_at + COMMITTED_WITHIN_SECONDS - time.monotonic())
        known = await self._stores.read_api(partial(known_paths_for_good, paths=blob_ids))
        return [blob_id for blob_id in blob_ids if blob_id not in known]

    @property
    def _removes_orphans(self) -> bool:
        """Not beside a database that lost leads, or is the wrong one: their resumes are what is left of them."""
        return self._fix and not self._leads_are_gone

    def _orphan(self, blob: BlobFacts) -> Finding:
        detail = f"no lead refers to it, stored {blob.stored_at:%Y-%m-%d %H:%M:%S} UTC"
        if self._removes_orphans:
            detail += "; removed"
        elif self._fix:
            detail += "; not removed, because leads seem to be missing: is this the right database?"
        return Finding(FindingKind.ORPHAN_BLOB, "blob", blob.id, detail, is_mended=self._removes_orphans)

    def _judge(self, record: Record) -> Judgement:
        return judge(record, forgotten_before=self._forgotten_before)

    def _report_all(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.totals.mended += finding.is_mended
            self.totals.discrepancies += not finding.is_mended
            self._leads_are_gone |= finding.kind in WITHOUT_LEAD
            self._report.finding(finding)
