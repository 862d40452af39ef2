"""Everything that belongs to one lead, brought together from the stores, a page of leads at a time.

All stores are read in the order of lead ids, in ranges, so that what belongs to no lead is met as well. A range is read
with a bound on the rows of each store; the range ends where the first of them was cut.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sqlalchemy.orm import Session

from services.api import store as api
from services.api.store import LeadFacts
from services.cli.audit.stores import Stores
from services.notifier import store as notifier
from services.notifier.store import EmailFacts
from services.storage.blobs import BlobFacts
from shared import outbox
from shared.events import LeadCreated
from shared.outbox import EventFacts

LEADS_AT_ONCE = 1000
ROWS_AT_ONCE = 4 * LEADS_AT_ONCE
"""Events, and e-mails, of one range: a lead has one and two. More come only where something is very wrong."""

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Record:
    """What was found under one lead id; `lead` is None when there is no such lead."""

    lead_id: str
    lead: LeadFacts | None
    blob: BlobFacts | None
    digest: str | None
    """SHA-256 of the stored bytes, where they were read."""
    events: Sequence[EventFacts]
    emails: Sequence[EmailFacts]


@dataclass(frozen=True)
class _Rows:
    leads: Sequence[LeadFacts]
    events: Sequence[EventFacts]
    emails: Sequence[EmailFacts]


class Records:
    """Reads records out of the stores. `deep` reads the bytes of every resume as well."""

    def __init__(self, stores: Stores, *, deep: bool) -> None:
        self._stores = stores
        self._deep = deep

    async def pages(self) -> AsyncIterator[list[Record]]:
        """All records in the order of lead ids, at most some thousand rows at a time."""
        after: str | None = ""
        while after is not None:
            rows, after = await self._range(after)
            yield await self._joined(rows)

    async def of(self, lead_ids: Sequence[str]) -> list[Record]:
        """The records of these ids, as they are now; of an id that is nowhere there is none."""
        leads, events = await self._stores.read_api(partial(_leads_and_events_of, lead_ids=lead_ids))
        emails = await self._stores.read_notifier(partial(notifier.facts_of, lead_ids=lead_ids))
        return await self._joined(_Rows(leads, events, emails))

    async def _range(self, after: str) -> tuple[_Rows, str | None]:
        """The rows behind the id `after`, and the id that the next range is behind, if there is a next one."""
        leads, events, through = await self._stores.read_api(partial(_leads_and_events_after, after=after))
        emails = await self._stores.read_notifier(
            partial(notifier.facts_between, after=after, through=through, limit=ROWS_AT_ONCE)
        )
        ends = [through, _last_whole(events, _subject), _last_whole(emails, _lead_id)]
        end = min((one for one in ends if one is not None), default=None)
        rows = _Rows(_up_to(end, leads, _id), _up_to(end, events, _subject), _up_to(end, emails, _lead_id))
        return rows, end

    async def _joined(self, rows: _Rows) -> list[Record]:
        paths = [lead.resume_path for lead in rows.leads]
        blobs = await self._stores.blobs(paths)
        digests = await self._stores.digests(paths) if self._deep else {}
        leads = {lead.id: lead for lead in rows.leads}
        events = _grouped(rows.events, _subject)
        emails = _grouped(rows.emails, _lead_id)
        records = []
        for lead_id in sorted(leads.keys() | events.keys() | emails.keys()):
            lead = leads.get(lead_id)
            path = lead.resume_path if lead else ""
            found = (events.get(lead_id, ()), emails.get(lead_id, ()))
            records.append(Record(lead_id, lead, blobs.get(path), digests.get(path), *found))
        return records


def _leads_and_events_after(session: Session, after: str) -> tuple[list[LeadFacts], list[EventFacts], str | None]:
    """In one snapshot: a lead and its event are kept in one transaction. Also where the leads were cut, if so."""
    leads = api.lead_facts_after(session, after, LEADS_AT_ONCE)
    through = leads[-1].id if len(leads) == LEADS_AT_ONCE else None
    return leads, outbox.facts_between(session, LeadCreated.TYPE, after, through, ROWS_AT_ONCE), through


def _leads_and_events_of(session: Session, lead_ids: Sequence[str]) -> tuple[list[LeadFacts], list[EventFacts]]:
    return api.lead_facts(session, lead_ids), outbox.facts_of(session, LeadCreated.TYPE, lead_ids)


def _last_whole(rows: Sequence[Row], key: Callable[[Row], str]) -> str | None:
    """Where rows were cut, the last id whose rows are all here. An id with more rows than are read ends with these."""
    if len(rows) < ROWS_AT_ONCE:
        return None
    last = key(rows[-1])
    return next((key(row) for row in reversed(rows) if key(row) != last), last)


def _up_to(end: str | None, rows: Sequence[Row], key: Callable[[Row], str]) -> list[Row]:
    return [row for row in rows if end is None or key(row) <= end]


def _grouped(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[key(row)].append(row)
    return grouped


def _id(lead: LeadFacts) -> str:
    return lead.id


def _subject(event: EventFacts) -> str:
    return event.subject


def _lead_id(email: EmailFacts) -> str:
    return email.lead_id
