"""Leads are found by the words of their resumes, in SQLite and in PostgreSQL alike, and each resume is read once."""

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from services.api import search, store
from services.api.resume_search import index
from services.api.resume_search.index import Reading, ReadOutcome, Unread
from services.api.resume_search.words import words_of
from services.api.search import LeadQuery
from services.api.settings import MIGRATIONS
from services.api.states import LeadState
from services.api.store import Submission
from shared.database import Database, as_utc
from shared.problems import Problem, ProblemType
from tests.harness.submissions import submission

TEXTS = {
    "ann": "Python and Kubernetes, since 2019",
    "bob": "Java; python",
    "eve": "Übersetzerin für Русский und 日本語、Python",
    "joe": "",
}


@asynccontextmanager
async def opened(url: str):
    database = Database(url)
    await database.migrate(MIGRATIONS)
    try:
        yield database
    finally:
        await database.close()


@pytest.fixture
async def database(either_url):
    async with opened(either_url) as database:
        yield database


@pytest.fixture
async def ids(database) -> dict[str, str]:
    """Leads whose resumes were read: their ids by name."""
    made = {name: submission(f"{name}@x.com") for name in TEXTS}
    await database.write(partial(store.insert_leads, submissions=[*made.values()]))
    ids = {name: one.lead.id for name, one in made.items()}
    for name, text in TEXTS.items():
        await database.write(partial(index.add, reading=reading(made[name], text)))
    return ids


def reading(one: Submission, text: str) -> Reading:
    return Reading(one.lead.id, one.lead.created_at, ReadOutcome.READ if text else ReadOutcome.EMPTY, words_of(text))


async def found(database: Database, ids: dict[str, str], resume: str, **more) -> set[str]:
    """The names of the leads; also that as many are counted."""
    query = LeadQuery(resume=resume, **more)
    page, total = await database.read(partial(search.find_page_and_total, query=query, counted=True))
    assert total == len(page.leads)
    names = {lead_id: name for name, lead_id in ids.items()}
    return {names[json.loads(lead)["id"]] for lead in page.leads}


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ("python", {"ann", "bob", "eve"}),
        ("PYTHON, kubernetes!", {"ann"}),
        ("2019", {"ann"}),
        ("ubersetzerin", {"eve"}),
        ("русский", {"eve"}),
        ("日本語", {"eve"}),
        ("pyth", set()),
        ("java kubernetes", set()),
        ("...", set()),
        ("", {"ann", "bob", "eve", "joe"}),
        ('"python" OR java', set()),
        ("pyth*", set()),
        ("python NOT java", set()),
        ("words:python", set()),
        ("NEAR(python java)", set()),
        ("'; DROP TABLE leads --", set()),
    ],
)
async def test_all_words_must_be_there_whole_and_signs_mean_nothing(database, ids, asked: str, names: set[str]):
    assert await found(database, ids, asked) == names


async def test_words_go_with_every_other_filter(database, ids):
    await database.write(partial(store.move_lead, lead_id=ids["bob"], wanted=LeadState.REACHED_OUT, version=None))
    assert await found(database, ids, "python", state=LeadState.REACHED_OUT) == {"bob"}
    assert await found(database, ids, "python", words="eve@") == {"eve"}
    assert await found(database, ids, "python", email="ANN@x.com", sort="last_name") == {"ann"}


async def all_pages(database: Database, **asked) -> list[str]:
    """The ids of the leads of all pages, in their order."""
    seen, cursor = [], None
    while True:
        page = await database.read(partial(search.find_page, query=LeadQuery(cursor=cursor, **asked)))
        seen += [json.loads(lead)["id"] for lead in page.leads]
        cursor = page.next_cursor
        if cursor is None:
            return seen
        assert len(page.leads) == asked["limit"]


@pytest.mark.parametrize("limit", [1, 2, 7, 200])
async def test_pages_by_time_have_each_lead_once_in_order_also_of_one_moment(database, monkeypatch, limit: int):
    monkeypatch.setattr(search, "LOOKED_AT", 3)
    now = datetime.now(UTC)
    made = [submission(f"p{n}@x.com", created_at=now + timedelta(microseconds=n // 3)) for n in range(30)]
    await database.write(partial(store.insert_leads, submissions=made))
    for n, one in enumerate(reversed(made)):
        await database.write(partial(index.add, reading=reading(one, "Python" if n % 2 else "Java")))
    have = [one for n, one in enumerate(reversed(made)) if n % 2]
    down = await all_pages(database, resume="python", limit=limit)
    up = await all_pages(database, resume="python", limit=limit, sort="created_at")
    assert sorted(down) == sorted(one.lead.id for one in have)
    assert up == down[::-1]
    times = {one.lead.id: one.lead.created_at for one in have}
    assert [times[one] for one in down] == sorted(times.values(), reverse=True)
    some = await all_pages(database, resume="python", limit=limit, words="p1")
    assert some == [one for one in down if one in {lead.lead.id for lead in made if "p1" in lead.lead.email}]


async def test_two_of_one_number_are_two(database, monkeypatch):
    """Of one microsecond, and alike in the last bits of their ids."""
    monkeypatch.setattr(index, "number_of", lambda *_: 5)
    made = [submission(f"same{n}@x.com") for n in range(3)]
    await database.write(partial(store.insert_leads, submissions=made))
    for _ in range(2):
        for one in made:
            await database.write(partial(index.add, reading=reading(one, "Python")))
    assert sorted(await all_pages(database, resume="python", limit=1)) == sorted(one.lead.id for one in made)


@pytest.mark.parametrize("either_url", ["sqlite"], indirect=True)
async def test_a_cursor_of_another_list_is_refused(database, ids):
    """In PostgreSQL both lists go by the same places."""
    asked = LeadQuery(resume="python", limit=1)
    plain = await database.read(partial(search.find_page, query=LeadQuery(limit=1)))
    ours = await database.read(partial(search.find_page, query=asked))
    forged = [search._encode("-created_at of a resume", value, "x") for value in ("", "x", "-1", "9" * 30, "१")]
    wrong = [replace(asked, cursor=cursor) for cursor in (*forged, plain.next_cursor)]
    for query in (*wrong, LeadQuery(limit=1, cursor=ours.next_cursor)):
        with pytest.raises(Problem) as refused:
            await database.read(partial(search.find_page, query=query))
        assert refused.value.type is ProblemType.INVALID_FIELDS


async def test_what_was_read_is_not_read_again_and_what_came_since_is(database, ids):
    assert await database.read(partial(index.unread, after="", limit=10)) == []
    new = [submission(f"new{number}@x.com") for number in range(3)]
    await database.write(partial(store.insert_leads, submissions=new))
    first = await database.read(partial(index.unread, after="", limit=2))
    assert [one.lead_id for one in first] == [one.lead.id for one in new[:2]]
    lead = new[0].lead
    assert replace(first[0], created_at=as_utc(first[0].created_at)) == Unread(
        lead.id, lead.created_at, lead.resume_path, "application/pdf", 1
    )
    rest = await database.read(partial(index.unread, after=first[-1].lead_id, limit=2))
    assert [one.lead_id for one in rest] == [new[2].lead.id]


async def test_what_another_api_has_read_stays_as_it_is(either_url, database, ids):
    ann = submission("ann@x.com")
    ann = replace(ann, lead=replace(ann.lead, id=ids["ann"]))
    async with opened(either_url) as other:
        await other.write(partial(index.add, reading=reading(ann, "Fortran")))
    assert await found(database, ids, "fortran") == set()
    assert await found(database, ids, "kubernetes") == {"ann"}


async def test_a_resume_may_have_more_words_than_any_has(database, ids):
    many = " ".join(f"w{number}" for number in range(6_000))
    one = submission("many@x.com")
    await database.write(partial(store.insert_leads, submissions=[one]))
    await database.write(partial(index.add, reading=reading(one, many)))
    ids = {**ids, "many": one.lead.id}
    assert await found(database, ids, "w0 w4999") == {"many"}
    assert await found(database, ids, "w5000") == set()
    assert await found(database, ids, " ".join(f"w{number}" for number in range(60))) == {"many"}
