"""The chaos tests' checker sees what it is there to see: each seeded fault has its verdict, a good run has none."""

from dataclasses import replace

import pytest

from tests.chaos.checker import (
    Arrived,
    Attempt,
    EmailRow,
    EventRow,
    Facts,
    Finding,
    LeadRow,
    Verdict,
    check,
    table,
)
from tests.chaos.verdicts import Verdicts, line_of


def sha256(number: int) -> str:
    return f"{number:064x}"


def address(number: int) -> str:
    return f"lead{number}@example.com"


def good(count: int = 3) -> Facts:
    """Lead 0 had no answer at first and was sent again with its key."""
    numbers = range(count)
    emails = [
        EmailRow(f"mail-{n}-{kind}", f"lead-{n}", kind, "sent", 1) for n in numbers for kind in ("prospect", "staff")
    ]
    return Facts(
        attempts=(
            Attempt(address(0), sha256(0), None, None, 0.5),
            *(Attempt(address(n), sha256(n), 201, f"lead-{n}", n) for n in numbers),
        ),
        leads=tuple(LeadRow(f"lead-{n}", address(n), f"blob-{n}", sha256(n)) for n in numbers),
        blobs={f"blob-{n}": sha256(n) for n in numbers},
        events=tuple(EventRow(f"event-{n}", f"lead-{n}", is_published=True) for n in numbers),
        emails=tuple(emails),
        mails=tuple(arrived(email) for email in emails),
        waiting=0,
        dead=0,
    )


def arrived(email: EmailRow) -> Arrived:
    number = email.lead_id.removeprefix("lead-")
    to = address(int(number)) if email.kind == "prospect" else "staff@example.com"
    return Arrived(email.id, email.lead_id, email.kind, (to,))


def changed(items: tuple, index: int, **values) -> tuple:
    return (*items[:index], replace(items[index], **values), *items[index + 1 :])


def without(items: tuple, index: int) -> tuple:
    return (*items[:index], *items[index + 1 :])


def unknown(facts: Facts, number: int) -> Facts:
    """The same, but nobody was ever told of that lead."""
    kept = [attempt for attempt in facts.attempts if attempt.email != address(number)]
    return replace(facts, attempts=(*kept, Attempt(address(number), sha256(number), None, None, 9.0)))


def nothing_of(facts: Facts, number: int) -> Facts:
    """The same, but without any trace of that lead."""
    lead = f"lead-{number}"
    return replace(
        facts,
        leads=tuple(one for one in facts.leads if one.id != lead),
        blobs={name: value for name, value in facts.blobs.items() if name != f"blob-{number}"},
        events=tuple(one for one in facts.events if one.lead_id != lead),
        emails=tuple(one for one in facts.emails if one.lead_id != lead),
        mails=tuple(one for one in facts.mails if one.lead_id != lead),
    )


def test_a_good_run_has_no_finding():
    assert check(good()) == []


def test_no_answer_may_be_kept_whole_or_clean():
    assert check(unknown(good(), 1)) == []
    assert check(nothing_of(unknown(good(), 1), 1)) == []


def test_refusals_bind_to_nothing():
    facts = good()
    refused = Attempt("refused@example.com", sha256(9), 503, None, 1.0)
    assert check(replace(facts, attempts=(*facts.attempts, refused))) == []


SEEDED = {
    "a lost lead": (lambda f: nothing_of(f, 1), {Verdict.LOST}),
    "a lost row": (
        lambda f: replace(f, leads=without(f.leads, 1)),
        {Verdict.LOST, Verdict.PHANTOM, Verdict.ORPHAN},
    ),
    "a lost blob": (lambda f: replace(f, blobs={"blob-0": sha256(0), "blob-2": sha256(2)}), {Verdict.LOST}),
    "a corrupted blob": (lambda f: replace(f, blobs={**f.blobs, "blob-1": sha256(77)}), {Verdict.LOST}),
    "a blob of another lead": (lambda f: replace(f, blobs={**f.blobs, "blob-1": sha256(2)}), {Verdict.LOST}),
    "bytes that were corrupted before they were hashed": (
        lambda f: replace(f, leads=changed(f.leads, 1, sha256=sha256(77)), blobs={**f.blobs, "blob-1": sha256(77)}),
        {Verdict.LOST},
    ),
    "a lost event": (
        lambda f: replace(nothing_of(f, 1), leads=f.leads, blobs=f.blobs),
        {Verdict.LOST},
    ),
    "a lead that was refused": (
        lambda f: replace(f, attempts=(*without(f.attempts, 2), Attempt(address(1), sha256(1), 503, None, 1.0))),
        {Verdict.PHANTOM},
    ),
    "an event that was not published": (
        lambda f: replace(
            f,
            events=changed(f.events, 1, is_published=False),
            emails=tuple(e for e in f.emails if e.lead_id != "lead-1"),
            mails=tuple(m for m in f.mails if m.lead_id != "lead-1"),
        ),
        {Verdict.STUCK},
    ),
    "an event twice": (
        lambda f: replace(f, events=(*f.events, EventRow("event-9", "lead-1", is_published=True))),
        {Verdict.DUPLICATED},
    ),
    "a message that vanished from the queue": (
        lambda f: replace(f, emails=without(f.emails, 2), mails=without(f.mails, 2)),
        {Verdict.LOST},
    ),
    "a message that is still in the queue": (
        lambda f: replace(f, emails=without(f.emails, 2), mails=without(f.mails, 2), waiting=1),
        {Verdict.STUCK},
    ),
    "a dead letter": (lambda f: replace(f, dead=1), {Verdict.STUCK}),
    "a stuck mail": (
        lambda f: replace(f, emails=changed(f.emails, 2, state="sending"), mails=without(f.mails, 2)),
        {Verdict.STUCK},
    ),
    "a failed mail": (
        lambda f: replace(f, emails=changed(f.emails, 2, state="failed"), mails=without(f.mails, 2)),
        {Verdict.STUCK},
    ),
    "a mail that is said to be sent and came nowhere": (
        lambda f: replace(f, mails=without(f.mails, 2)),
        {Verdict.LOST},
    ),
    "a duplicate mail": (lambda f: replace(f, mails=(*f.mails, f.mails[2])), {Verdict.DUPLICATED}),
    "a mail sent again after a crash": (
        lambda f: replace(f, mails=(*f.mails, f.mails[2]), emails=changed(f.emails, 2, attempts=2)),
        {Verdict.REPEATED},
    ),
    "a mail sent more often than was tried": (
        lambda f: replace(f, mails=(*f.mails, *f.mails[2:3] * 2), emails=changed(f.emails, 2, attempts=2)),
        {Verdict.DUPLICATED},
    ),
    "a mail of the same lead under another id": (
        lambda f: replace(f, mails=(*f.mails, replace(f.mails[2], email_id="mail-9"))),
        {Verdict.PHANTOM},
    ),
    "two e-mails written down for one lead": (
        lambda f: replace(
            f,
            emails=(*f.emails, replace(f.emails[2], id="mail-9")),
            mails=(*f.mails, replace(f.mails[2], email_id="mail-9")),
        ),
        {Verdict.DUPLICATED},
    ),
    "a mail to another person": (
        lambda f: replace(f, mails=changed(f.mails, 2, to=("other@example.com",))),
        {Verdict.PHANTOM},
    ),
    "a lead that nobody sent": (
        lambda f: replace(f, attempts=tuple(a for a in f.attempts if a.email != address(1))),
        {Verdict.PHANTOM},
    ),
    "one address with two leads": (
        lambda f: replace(
            good(4), attempts=f.attempts, leads=(*f.leads, LeadRow("lead-3", address(1), "blob-3", sha256(1)))
        ),
        {Verdict.DUPLICATED, Verdict.LOST, Verdict.PHANTOM},
    ),
    "two different answers to one key": (
        lambda f: replace(f, attempts=(*f.attempts, Attempt(address(1), sha256(1), 201, "lead-2", 9.0))),
        {Verdict.DUPLICATED, Verdict.LOST},
    ),
    "an orphan blob": (lambda f: replace(f, blobs={**f.blobs, "blob-9": sha256(9)}), {Verdict.ORPHAN}),
    "half a lead after no answer: its event without its row": (
        lambda f: replace(nothing_of(unknown(f, 1), 1), events=f.events),
        {Verdict.PHANTOM, Verdict.LOST},
    ),
    "half a lead after no answer: its row without its blob": (
        lambda f: replace(unknown(f, 1), blobs={"blob-0": sha256(0), "blob-2": sha256(2)}),
        {Verdict.LOST},
    ),
    "half a lead after no answer: its mail without its row": (
        lambda f: replace(nothing_of(unknown(f, 1), 1), mails=f.mails),
        {Verdict.PHANTOM},
    ),
}


@pytest.mark.parametrize("name", SEEDED)
def test_each_seeded_fault_is_seen_and_called_by_its_name(name):
    seed, verdicts = SEEDED[name]
    assert {finding.verdict for finding in check(seed(good()))} == verdicts


def test_one_fault_among_many_leads_is_one_finding():
    facts = good(100)
    findings = check(replace(facts, blobs={**facts.blobs, "blob-57": sha256(7)}))
    assert [(finding.verdict, "lead57@example.com" in finding.what) for finding in findings] == [(Verdict.LOST, True)]


def test_leads_without_an_answer_are_recovered_when_they_are_there_and_unknown_when_not():
    facts = nothing_of(unknown(unknown(good(), 1), 2), 2)
    line = line_of("a size", "a scenario", facts.attempts, facts, check(facts), faults=1, seconds=0.0)
    assert (line.attempts, line.acknowledged, line.recovered, line.unknown) == (4, 1, 1, 1)


def test_the_verdict_table_has_a_line_for_each_scenario_and_sums_them_up():
    facts = good()
    seen = [Finding(Verdict.LOST, "a lead")]
    lines = [line_of("a size", name, facts.attempts, facts, seen, faults=2, seconds=0.0) for name in ("one", "two")]
    (text,) = Verdicts(lines).tables()
    assert [cell.strip() for cell in text.splitlines()[-1].split("|")][1:9] == [
        "all",
        "4",
        "8",
        "6",
        "0",
        "0",
        "2",
        "0",
    ]


def test_the_table_counts_every_verdict_and_every_kind_of_answer():
    facts = nothing_of(good(), 1)
    lines = table(facts, check(facts)).splitlines()
    assert lines[0] == "4 attempts (201: 3, no answer: 1)"
    assert lines[1] == "2 leads, 2 blobs, 2 events, 4 mails"
    assert [line.split()[:2] for line in lines[2:]] == [
        ["lost", "1"],
        ["duplicated", "0"],
        ["phantom", "0"],
        ["stuck", "0"],
        ["orphan", "0"],
        ["repeated", "0"],
    ]
