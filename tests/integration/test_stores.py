"""What the rooms keep is the same in SQLite and in PostgreSQL, also when two processes of a room are at it at once."""

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from limits import parse
from sqlalchemy import select

from services.api import search, staff, store
from services.api.leads import LeadView
from services.api.rate_counts import DatabaseCounts
from services.api.search import LeadQuery
from services.api.settings import MIGRATIONS as API_MIGRATIONS
from services.api.staff import UserError
from services.api.states import LeadState
from services.api.store import Duplicate, Kept, KeyReused, Replayed
from services.api.tables import Role
from services.notifier import store as emails
from services.notifier.delivery import new_emails
from services.notifier.settings import MIGRATIONS as NOTIFIER_MIGRATIONS
from services.notifier.store import Move
from services.notifier.tables import Email, EmailKind, EmailState
from shared import outbox
from shared.database import Database, GroupCommit
from shared.problems import Problem, ProblemType
from tests.harness.events import event, lead_created
from tests.harness.submissions import submission

NOTIFIER = "LEADS_NOTIFIER_DATABASE_URL"
NAMES = ["anna", "Zoë", "Änne", "a b", "a-b", "ab", "李"]


@asynccontextmanager
async def pair(url: str, migrations, setting: str = "LEADS_DATABASE_URL"):
    """The database as two processes of a room have it open."""
    first, second = Database(url, setting=setting), Database(url, setting=setting)
    await first.migrate(migrations)
    yield first, second
    await first.close()
    await second.close()


@pytest.fixture
async def api(each_url):
    async with pair(each_url, API_MIGRATIONS) as databases:
        yield databases


@pytest.fixture
async def notifier(each_url):
    async with pair(each_url, NOTIFIER_MIGRATIONS, NOTIFIER) as databases:
        yield databases


def kinds(outcomes) -> list[str]:
    return [type(outcome).__name__ for outcome in outcomes]


async def keep(database: Database, *submissions):
    return await database.write(partial(store.insert_leads, submissions=submissions))


async def test_each_submission_has_its_outcome_in_a_group_and_after_it(api):
    first, again = submission("ann@x.com", key="k"), submission("ann@x.com", key="k")
    other, same = submission("bob@x.com", key="k"), submission("Ann@x.com")
    group = GroupCommit(api[0], store.insert_leads)
    outcomes = await asyncio.gather(*(group.add(one) for one in (first, again, other, same)))
    assert kinds(outcomes) == ["Kept", "Replayed", "KeyReused", "Duplicate"]
    assert outcomes[1] == Replayed(first.answer, first.lead.id)
    assert kinds(await keep(api[1], again, other, same)) == ["Replayed", "KeyReused", "Duplicate"]
    assert [one.message.id for one in await waiting(api[0])] == [first.event.id]


async def waiting(database: Database):
    return await database.read(partial(outbox.unpublished, limit=10))


async def test_of_the_same_request_in_two_processes_at_once_one_is_kept_and_the_others_hear_its_answer(api):
    groups = [GroupCommit(database, store.insert_leads) for database in api]
    for round_ in range(5):
        key = f"key {round_}"
        requests = [submission(f"ann{round_}@x.com", key=key) for _ in range(20)]
        outcomes = await asyncio.gather(*(groups[n % 2].add(one) for n, one in enumerate(requests)))
        assert Counter(kinds(outcomes)) == {"Kept": 1, "Replayed": 19}
        assert len({outcome.answer for outcome in outcomes if isinstance(outcome, Replayed)}) == 1


async def test_of_two_requests_with_one_key_at_once_one_is_kept(api):
    groups = [GroupCommit(database, store.insert_leads) for database in api]
    requests = [submission(f"ann{number}@x.com", key="one key") for number in range(10)]
    outcomes = await asyncio.gather(*(groups[n % 2].add(one) for n, one in enumerate(requests)))
    assert {type(outcome) for outcome in outcomes} == {Kept, KeyReused}
    assert await api[0].read(store.count_leads) == 1


async def test_the_same_addresses_in_opposite_orders_are_one_lead_each(api):
    addresses = [f"{number}@x.com" for number in range(50)]
    for round_ in range(5):
        there = [submission(f"{round_}-{address}") for address in addresses]
        back = [submission(f"{round_}-{address}") for address in reversed(addresses)]
        found = await asyncio.gather(keep(api[0], *there), keep(api[1], *back))
        assert Counter(kinds([*found[0], *found[1]])) == {"Kept": 50, "Duplicate": 50}
    assert all(isinstance(outcome, Duplicate) for outcome in await keep(api[0], *there))


async def test_of_those_who_come_with_one_ticket_at_once_one_is_kept_and_nobody_waits_for_ever(api):
    """Also where each of two transactions brings what the other has begun with."""
    for round_ in range(3):
        tickets = [f"{round_}-{number:03}" for number in range(100)]
        there = [
            submission(f"a{place:03}-{round_}@x.com", blob=one, by_ticket=True) for place, one in enumerate(tickets)
        ]
        back = [
            submission(f"b{place:03}-{round_}@x.com", blob=one, by_ticket=True)
            for place, one in enumerate(reversed(tickets))
        ]
        found = await asyncio.gather(keep(api[0], *there), keep(api[1], *back))
        assert Counter(kinds([*found[0], *found[1]])) == {"Kept": 100, "ResumeTaken": 100}
    again = submission("new@x.com", blob="0-000", by_ticket=True)
    assert kinds(await keep(api[0], again, again)) == ["ResumeTaken", "ResumeTaken"]
    twice = [submission(f"twice{number}@x.com", blob="twice", by_ticket=True) for number in range(2)]
    assert kinds(await keep(api[0], *twice)) == ["Kept", "ResumeTaken"]
    assert await api[0].read(partial(store.resume_of, blob_id="nobody's")) is None
    kept = await api[1].read(partial(store.resume_of, blob_id="twice"))
    assert (kept.filename, kept.size_bytes) == ("cv.pdf", 1)


@pytest.mark.parametrize("sort", ["created_at", "-created_at", "last_name", "-last_name", "email", "-email"])
async def test_the_list_has_one_order_and_its_pages_have_each_lead_once(api, sort):
    now = datetime.now(UTC)
    made = [
        submission(f"p{7 * number % 5}-{number}@x.com", last_name=name, created_at=now + timedelta(seconds=number % 3))
        for number, name in enumerate(NAMES)
    ]
    await keep(api[0], *made)
    field = sort.removeprefix("-")
    by_bytes = sorted(made, key=lambda one: (_sortable(getattr(one.lead, field)), one.lead.id), reverse=sort[0] == "-")
    found, cursor = [], None
    while True:
        page = await api[0].read(partial(search.find_page, query=LeadQuery(sort=sort, limit=2, cursor=cursor)))
        found += [json.loads(lead)["last_name"] for lead in page.leads]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == [one.lead.last_name for one in by_bytes]


async def test_a_cursor_that_names_no_moment_of_ours_is_refused_and_one_of_another_zone_is_understood(api):
    one = submission("ann@x.com", created_at=datetime(2026, 1, 2, tzinfo=UTC))
    await keep(api[0], one)
    there, nowhere = "2026-01-03T01:00:00+02:00", "0001-01-01T00:00:00+23:59"
    cursor = search._encode("-created_at", there, one.lead.id)
    page = await api[0].read(partial(search.find_page, query=LeadQuery(cursor=cursor)))
    assert [json.loads(lead)["id"] for lead in page.leads] == [one.lead.id]
    cursor = search._encode("-created_at", nowhere, one.lead.id)
    with pytest.raises(Problem) as refused:
        await api[0].read(partial(search.find_page, query=LeadQuery(cursor=cursor)))
    assert refused.value.type is ProblemType.INVALID_FIELDS


ODD_NAMES = [
    'a "quoted" \\ one',
    "</script>'&",
    "tab\tand\nline",
    "\x01\x1f\x7f\x85",
    "\u2028\u200d😀",
    "a/b",
    "1e5",
    "null",
]
ODD_MICROSECONDS = [0, 1, 100_000, 999_999]


async def test_a_page_holds_each_lead_as_it_is_shown_by_itself(api):
    """Whatever writes the page."""
    moments = [datetime(2026, 1, 2, 3, 4, 5, microseconds, tzinfo=UTC) for microseconds in ODD_MICROSECONDS]
    made = [
        submission(f"p{number}@x.com", last_name=name, created_at=moments[number % len(moments)])
        for number, name in enumerate(ODD_NAMES)
    ]
    await keep(api[0], *made)
    page = await api[0].read(partial(search.find_page, query=LeadQuery(sort="email")))
    assert page.leads == [LeadView.of(one.lead).model_dump_json() for one in made]


def _sortable(value):
    return value.encode() if isinstance(value, str) else value


async def test_leads_are_found_by_words_address_state_and_time(api):
    now = datetime.now(UTC)
    await keep(
        api[0],
        submission("Ann@X.com", last_name="O'Neil 100%", created_at=now),
        submission("bob_b@x.com", last_name="Straße", created_at=now - timedelta(days=2)),
    )

    async def found(**asked) -> list[str]:
        look = partial(search.find_page_and_total, query=LeadQuery(**asked), counted=True)
        page, total = await api[0].read(look)
        assert total == len(page.leads)
        return [json.loads(lead)["email"] for lead in page.leads]

    assert await found(words="o'neil 100%") == ["Ann@X.com"]
    assert await found(words="STRASSE") == ["bob_b@x.com"]
    assert await found(words="b_b") == ["bob_b@x.com"]
    assert await found(words="a_n") == []
    assert await found(email="ann@x.COM") == ["Ann@X.com"]
    assert await found(created_after=now - timedelta(days=1)) == ["Ann@X.com"]
    assert await found(created_before=now - timedelta(days=1)) == ["bob_b@x.com"]
    assert len(await found(state=LeadState.PENDING)) == 2


async def test_of_two_who_move_a_lead_at_once_one_moves_it(api):
    one = submission("ann@x.com")
    await keep(api[0], one)
    move = partial(store.move_lead, lead_id=one.lead.id, wanted=LeadState.REACHED_OUT, version=1)
    moved = await asyncio.gather(*(database.write(move) for database in api * 3))
    assert [lead.version for lead in moved if lead] == [2]


async def test_of_the_first_user_and_of_a_name_there_is_one(api):
    made = await asyncio.gather(
        *(staff.add_first_user(database, f"{n}@x.com", "a" * 12, Role.ADMIN) for n, database in enumerate(api * 2))
    )
    assert sorted(made) == [False, False, False, True]
    added = await asyncio.gather(
        *(staff.add_user(database, "Ann@x.com", "a" * 12, Role.STAFF) for database in api * 2), return_exceptions=True
    )
    assert [type(outcome) for outcome in added].count(UserError) == 3
    await staff.disable_user(api[0], "ann@x.com")
    user = await api[1].read(partial(staff.get_user, email="ANN@x.com"))
    assert (user.token_version, user.disabled_at is None) == (2, False)


async def test_two_notifiers_that_plan_the_same_events_at_once_plan_each_email_once_and_within_the_cap(notifier):
    events = [event(lead_created(f"ann+{number}@example.com")) for number in range(12)]
    plans = [GroupCommit(one, partial(emails.plan, prospect_mails_per_day=5)) for one in notifier]
    planned = await asyncio.gather(
        *(plan.add(new_emails(one, one.payload())) for one in events for plan in plans),
    )
    assert all(
        [email.id for email in there] == [email.id for email in here]
        for there, here in zip(planned[::2], planned[1::2], strict=True)
    )
    prospects = [there[0] for there in planned[::2]]
    assert all(email.kind is EmailKind.PROSPECT for email in prospects)
    assert Counter(email.state for email in prospects) == {EmailState.PENDING: 5, EmailState.DROPPED: 7}


async def test_of_two_notifiers_that_take_the_same_steps_one_takes_each(notifier):
    events = [event(lead_created(f"ann{number}@example.com")) for number in range(30)]
    both = [new_emails(one, one.payload()) for one in events]
    await notifier[0].write(partial(emails.plan, wanted=both, prospect_mails_per_day=5))
    moves = [Move(email.id, EmailState.PENDING, 0, EmailState.SENDING) for pair_ in both for email in pair_]
    taken = await asyncio.gather(
        notifier[0].write(partial(emails.move, moves=moves)),
        notifier[1].write(partial(emails.move, moves=list(reversed(moves)))),
    )
    assert [here != there for here, there in zip(taken[0], reversed(taken[1]), strict=True)] == [True] * 60


async def test_what_may_have_been_sent_is_doubted_with_its_reason(notifier):
    one = event()
    await notifier[0].write(partial(emails.plan, wanted=[new_emails(one, one.payload())], prospect_mails_per_day=5))
    assert await notifier[0].write(partial(emails.doubt, event_ids=[one.id], why="restored")) == 2
    facts = await notifier[1].read(partial(emails.facts_between, after="", through=None, limit=10))
    assert {fact.state for fact in facts} == {EmailState.UNCERTAIN}
    assert (await notifier[0].read(emails.count_by_state))[EmailState.UNCERTAIN] == 2
    assert await notifier[0].read(partial(emails.settled_events, event_ids=[one.id])) == set()
    reasons = await notifier[0].read(lambda session: session.execute(select(Email.reason)).scalars().all())
    assert set(reasons) == {"restored (it was pending)"}


async def test_the_outbox_remembers_what_was_published(api):
    made = [submission(f"{number}@x.com") for number in range(3)]
    await keep(api[0], *made)
    assert (await api[0].read(outbox.backlog)).events == 3
    facts = partial(outbox.facts_of, type_="lead.created", subjects=[one.lead.id for one in made])
    assert len(await api[1].read(facts)) == 3
    assert all(fact.published_at is None for fact in await api[1].read(facts))
    await api[0].write(partial(outbox.forget_published, before=datetime.now(UTC)))
    assert (await api[0].read(outbox.backlog)).events == 3


async def test_an_event_that_is_published_again_is_not_marked_by_what_was_confirmed_before(api):
    await keep(api[0], submission("ann@x.com"), submission("bob@x.com"))
    before = await waiting(api[0])
    again, other = (one.message.id for one in before)
    await api[1].write(partial(outbox.publish_again, ids=[again]))
    await api[0].write(partial(outbox.mark_published, confirmed=before))
    assert [one.message.id for one in await waiting(api[1])] == [again] != [other]
    await api[0].write(partial(outbox.mark_published, confirmed=await waiting(api[0])))
    assert await waiting(api[1]) == []


async def test_uses_of_a_limit_are_counted_together(api):
    limit, counts = parse("10/minute"), [DatabaseCounts(database) for database in api]
    callers = [("ann", "bob")[number % 3 == 0] for number in range(60)]
    key = limit.key_for
    sums = await asyncio.gather(*(counts[n % 2].incr(key(who), 60) for n, who in enumerate(callers)))
    for who, uses in Counter(callers).items():
        assert sorted(sums[n] for n, caller in enumerate(callers) if caller == who) == list(range(1, uses + 1))
        assert await counts[0].get(key(who)) == uses
    await counts[1].reset()
    assert await counts[0].get(key("ann")) == 0
