"""The parts of an audit: what is judged how, when a queue is too short, and that memory holds a page at most."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.api.store import LeadFacts
from services.cli.audit import command, records
from services.cli.audit.findings import FindingKind
from services.cli.audit.judge import judge
from services.cli.audit.ledger import Ledger
from services.cli.audit.queue import DEAD_LETTERS_NAMED, why_lost
from services.cli.audit.records import Record, Records
from services.notifier.store import EmailFacts
from services.notifier.tables import EmailKind, EmailState
from services.storage.blobs import BlobFacts
from shared.bus import QueueStats
from shared.outbox import EVENTS_KEPT, EventFacts

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
KINDS = ("prospect", "staff")


def record(
    *,
    age: timedelta = timedelta(hours=1),
    published: tuple[bool, ...] = (True,),
    emails: tuple[str, ...] = ("sent", "sent"),
    digest: str | None = None,
) -> Record:
    """A lead that adds up but for what is said."""
    created_at = NOW - age
    return Record(
        "lead",
        LeadFacts("lead", "blob", 3, "abc", created_at),
        BlobFacts("blob", 3, created_at),
        digest,
        [EventFacts(f"event {n}", "lead", created_at if is_so else None) for n, is_so in enumerate(published)],
        [
            EmailFacts(kind, "lead", "event 0", EmailKind(kind), EmailState(state), created_at)
            for kind, state in zip(KINDS, emails, strict=False)
        ],
    )


def judged(one: Record) -> str:
    """What is found, owed or waited for, in a word each."""
    judgement = judge(one, forgotten_before=NOW - EVENTS_KEPT)
    words = [str(finding.kind) for finding in judgement.findings]
    return ", ".join([*words, *["owed"] * (judgement.owed is not None), *["in outbox"] * judgement.in_outbox])


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (record(), ""),
        (record(emails=("sent", "dropped")), ""),
        (record(emails=("failed", "sent")), ""),
        (record(digest="abc"), ""),
        (record(digest="abd"), FindingKind.RESUME_CONTENT),
        (record(emails=("sent", "pending")), "owed"),
        (record(emails=("uncertain", "sent")), "owed"),
        (record(emails=("sending", "sent")), "owed"),
        (record(emails=("sent",)), "owed"),
        (record(emails=()), "owed"),
        (record(published=(False,), emails=()), "in outbox"),
        (record(published=(False,)), ""),  # published, and the api was killed before it could mark it
        (record(published=()), FindingKind.EVENT_MISSING),
        (record(published=(True, True)), FindingKind.EVENT_REPEATED),
        (record(published=(), age=EVENTS_KEPT + timedelta(hours=1)), ""),
        (record(published=(), age=EVENTS_KEPT + timedelta(hours=1), emails=("sent",)), "owed"),
    ],
)
def test_a_lead_is_judged_by_what_belongs_to_it(one: Record, verdict: str):
    assert judged(one) == verdict


def queue(*, ready: int = 0, retrying: int = 0, dead: int = 0, consumers: int = 0) -> QueueStats:
    return QueueStats("notifier", ready, None, consumers, {"notifier.retry.10s": retrying}, dead)


@pytest.mark.parametrize(
    ("owed", "heard_seconds_ago", "stats", "is_lost"),
    [
        (3, 10, [queue(ready=1, retrying=2)], False),
        (3, 1000, [queue(ready=1, retrying=2)], False),
        (3, 10, [queue(ready=1, retrying=1, dead=1)], True),  # a dead letter is known by name, and not one of the three
        (3, 10, [queue(ready=1, retrying=1, dead=DEAD_LETTERS_NAMED + 1)], False),  # one that nobody looked at
        (3, 10, [queue(ready=1, retrying=1)], True),
        (3, 10, [queue(ready=1, retrying=1, consumers=1)], False),  # in hand, perhaps
        (9, 10, [queue(ready=1, retrying=1, consumers=1)], True),  # more than hands can hold
        (3, 1000, [queue(ready=1, retrying=1, consumers=1)], True),  # nobody has had it in hand for so long
        (1, 10, [queue(), queue(ready=1)], False),  # on its way from one queue to another
        (0, None, [queue()], False),
    ],
)
def test_where_a_queue_is_only_counted_more_leads_than_events_are_a_loss(owed, heard_seconds_ago, stats, is_lost):
    heard_at = None if heard_seconds_ago is None else NOW - timedelta(seconds=heard_seconds_ago)
    assert (why_lost(owed, heard_at, stats, in_hand_each=4, now=NOW) is not None) == is_lost


class StoresOfRows:
    """Stands in for the stores: rows of two tables, and a note of the largest answer."""

    def __init__(self, leads: list[str], lead_ids_of_emails: list[str]) -> None:
        self.leads, self.emails = sorted(leads), sorted(lead_ids_of_emails)
        self.largest = 0

    async def read_api(self, work):
        after = work.keywords["after"]
        found = [one for one in self.leads if one > after][: records.LEADS_AT_ONCE]
        through = found[-1] if len(found) == records.LEADS_AT_ONCE else None
        return [LeadFacts(one, f"blob of {one}", 3, "abc", NOW) for one in found], [], through

    async def read_notifier(self, work):
        after, through, limit = (work.keywords[name] for name in ("after", "through", "limit"))
        found = [one for one in self.emails if one > after and (through is None or one <= through)][:limit]
        self.largest = max(self.largest, len(found))
        return [EmailFacts("", one, "", EmailKind.STAFF, EmailState.SENT, NOW) for one in found]

    async def blobs(self, _ids):
        return {}


@pytest.mark.parametrize("of_no_lead", [0, 1, 37])
async def test_pages_hold_all_rows_and_no_more_than_fit_whatever_belongs_to_nobody(monkeypatch, of_no_lead):
    monkeypatch.setattr(records, "LEADS_AT_ONCE", 5)
    monkeypatch.setattr(records, "ROWS_AT_ONCE", 10)
    leads = [f"{number:04}" for number in range(0, 60, 3)]
    nobodys = [f"{number:04}" for number in range(100, 100 + of_no_lead)]
    stores = StoresOfRows(leads, [*leads, *leads, *nobodys])
    pages = [page async for page in Records(stores, deep=False).pages()]
    seen = [one for page in pages for one in page]
    assert [one.lead_id for one in seen] == sorted([*leads, *nobodys])
    assert [len(one.emails) for one in seen if one.lead] == [2] * len(leads)
    assert stores.largest <= 10
    assert max(map(len, pages)) <= 10


async def test_an_id_with_more_rows_than_a_page_holds_does_not_stop_the_audit(monkeypatch):
    monkeypatch.setattr(records, "LEADS_AT_ONCE", 2)
    monkeypatch.setattr(records, "ROWS_AT_ONCE", 4)
    stores = StoresOfRows(["a", "b", "c"], ["b"] * 9)
    seen = [one.lead_id async for page in Records(stores, deep=False).pages() for one in page]
    assert seen == ["a", "b", "c"]


def test_a_ledger_that_grows_is_on_disk():
    with Ledger() as ledger:
        before = bytes_in_open_files()
        ledger.orphan(f"{number:040}" for number in range(100_000))
        assert bytes_in_open_files() - before > 2**21
        assert sum(len(page) for page in ledger.orphans()) == 100_000


def bytes_in_open_files() -> int:
    """What this process has open, files without a name included."""
    sizes = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            sizes += descriptor.stat().st_size
    return sizes


def test_a_folder_that_is_closed_to_us_is_one_line(tmp_path: Path, monkeypatch, capsys):
    def closed(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(command, "configure_logs", lambda *_: None)
    monkeypatch.setenv("LEADS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(Path, "is_file", closed)  # root, who runs tests in containers, may look anywhere
    assert command.run(deep=False, fix=False, as_json=False) == command.EXIT_CANNOT_AUDIT
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"leads: LEADS_DATABASE_URL: {tmp_path / 'leads.db'} cannot be opened")
