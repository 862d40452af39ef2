"""The staff's list of leads: filters, search, sort, and pages by cursor (keyset: a page costs what it holds)."""

import base64
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.orm import Session

from services.api import lead_texts
from services.api.fields import email_key
from services.api.resume_search.index import Found, by_time, leads_with
from services.api.resume_search.words import words_of
from services.api.states import LeadState
from services.api.tables import Lead
from shared.database import as_utc, table_of
from shared.dialect import MYSQL, POSTGRESQL
from shared.problems import FieldError, Problem, invalid_fields

PAGE_MAX = 200
PAGE_DEFAULT = 50
SORTS = ("created_at", "last_name", "email")
"""What the list can be sorted by; with `-` before it, downwards. The id breaks ties."""

LOOKED_AT, LOOKED_AT_MOST = 300, 4_800
"""Leads that have a word and are held against the other filters at once: at first, and where few pass these."""

NO_NUL = r"^[^\x00]*$"
"""Pattern of texts that are looked for: PostgreSQL has no place for U+0000, so nothing of that kind is kept."""

_ESCAPE = "\\"
_SORTED_BY = "sorted_by"
_LEADS = table_of(Lead)


@dataclass(frozen=True)
class LeadQuery:
    """What the staff asked for."""

    state: LeadState | None = None
    words: str | None = None
    resume: str | None = None
    """Words that are in the resume."""
    email: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    sort: str = "-created_at"
    limit: int = PAGE_DEFAULT
    cursor: str | None = None

    @property
    def is_found_at_once(self) -> bool:
        """Whether an index leads straight to the page, however many leads there are."""
        return self.sort.endswith("created_at") and not self.words and not self.resume


@dataclass(frozen=True)
class Page:
    """The leads of one page, each as JSON, and where the next page begins."""

    leads: Sequence[str]
    next_cursor: str | None


class _Place(BaseModel):
    """Where a page ended: what a cursor holds."""

    sort: str
    value: str = Field(pattern=NO_NUL)
    lead_id: str = Field(pattern=NO_NUL)


def find_page(session: Session, query: LeadQuery) -> Page:
    """One page. Raises `Problem` 422 for a sort or a cursor that is not ours."""
    field, descending = _sort(query.sort)
    if query.resume and field == "created_at" and session.get_bind().dialect.name != POSTGRESQL:
        return _page_by_words(session, query, words_of(query.resume), descending=descending)
    column = _LEADS.c[field]
    place = tuple_(column, _LEADS.c.id)
    statement = _filtered(session, select(_LEADS.c.id, column.label(_SORTED_BY), *lead_texts.columns(session)), query)
    if query.cursor:
        value, lead_id = _decode(query.cursor, query.sort)
        last = tuple_(value, lead_id)
        statement = statement.where(place < last if descending else place > last)
        if session.get_bind().dialect.name == MYSQL:  # it finds no place in an index by two columns at once
            statement = statement.where(column <= value if descending else column >= value)
    order = [column.desc(), _LEADS.c.id.desc()] if descending else [column, _LEADS.c.id]
    found = session.connection().execute(statement.order_by(*order).limit(query.limit + 1)).all()
    page = found[: query.limit]
    text = lead_texts.writer(session)
    cursor = _encode(query.sort, page[-1][1], page[-1][0]) if len(found) > query.limit else None
    return Page([text(row[2:]) for row in page], cursor)


def _page_by_words(session: Session, query: LeadQuery, words: Sequence[str], *, descending: bool) -> Page:
    """A page by time of the leads that have the words: as many of those as fill it are looked at, and no more."""
    sort = f"{query.sort} of a resume"
    place = _decode_number(query.cursor, sort) if query.cursor else None
    filtered = _filtered(session, select(_LEADS.c.id), replace(query, resume=None))
    leads: list[Found] = []
    at_once = LOOKED_AT
    while words and len(leads) <= query.limit:
        found = by_time(session, words, place=place, descending=descending, limit=at_once)
        passing = set(session.execute(filtered.where(_LEADS.c.id.in_([one.lead_id for one in found]))).scalars())
        leads += [one for one in found if one.lead_id in passing]
        if len(found) < at_once:
            break
        place, at_once = found[-1].number, min(2 * at_once, LOOKED_AT_MOST)
    page = leads[: query.limit]
    cursor = _encode(sort, str(page[-1].number), page[-1].lead_id) if len(leads) > query.limit else None
    return Page(lead_texts.of(session, [one.lead_id for one in page]), cursor)


def find_pages(session: Session, queries: Sequence[LeadQuery]) -> list[Page | Problem]:
    """A page for each, or why there is none."""
    return [_page_or_problem(session, query) for query in queries]


def find_page_and_total(session: Session, query: LeadQuery, *, counted: bool) -> tuple[Page, int | None]:
    """One page and, if `counted`, how many match in all, of one snapshot. Raises as `find_page`."""
    return find_page(session, query), count(session, query) if counted else None


def _page_or_problem(session: Session, query: LeadQuery) -> Page | Problem:
    try:
        return find_page(session, query)
    except Problem as problem:
        return problem


def count(session: Session, query: LeadQuery) -> int:
    """How many leads match in all."""
    found = session.execute(_filtered(session, select(func.count()).select_from(_LEADS), query))
    return int(found.scalar_one())


def search_text(*parts: str) -> str:
    """The form in which names and addresses are compared: composed (NFC) and case-folded."""
    return unicodedata.normalize("NFC", " ".join(parts)).casefold()


def _filtered(session: Session, statement: Select[Any], query: LeadQuery) -> Select[Any]:
    if query.state is not None:
        statement = statement.where(_LEADS.c.state == query.state)
    if query.email is not None:
        statement = statement.where(_LEADS.c.email_key == email_key(query.email))
    if query.created_after is not None:
        statement = statement.where(_LEADS.c.created_at > query.created_after)
    if query.created_before is not None:
        statement = statement.where(_LEADS.c.created_at < query.created_before)
    for word in search_text(query.words or "").split():
        statement = statement.where(_LEADS.c.search_text.like(f"%{_literal(word)}%", escape=_ESCAPE))
    if query.resume:
        found = leads_with(session.get_bind().dialect.name, words_of(query.resume))
        statement = statement.where(_LEADS.c.id.in_(found))
    return statement


def _literal(word: str) -> str:
    """`%` and `_` are letters like others when a person types them."""
    for special in (_ESCAPE, "%", "_"):
        word = word.replace(special, _ESCAPE + special)
    return word


def _sort(sort: str) -> tuple[str, bool]:
    field = sort.removeprefix("-")
    if field not in SORTS:
        raise invalid_fields(FieldError("sort", f"Sort by one of {', '.join(SORTS)}, with - before it for downwards."))
    return field, sort.startswith("-")


def _encode(sort: str, value: str | datetime, lead_id: str) -> str:
    plain = as_utc(value).isoformat() if isinstance(value, datetime) else value
    place = _Place(sort=sort, value=plain, lead_id=lead_id)
    return base64.urlsafe_b64encode(place.model_dump_json().encode()).decode().rstrip("=")


def _decode(cursor: str, sort: str) -> tuple[str | datetime, str]:
    try:
        place = _Place.model_validate_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        value = as_utc(datetime.fromisoformat(place.value)) if sort.endswith("created_at") else place.value
    except ValueError:
        raise _foreign_cursor() from None
    if place.sort != sort:
        raise _foreign_cursor()
    return value, place.lead_id


def _decode_number(cursor: str, sort: str) -> int:
    value = str(_decode(cursor, sort)[0])
    if not (value.isascii() and value.isdecimal() and int(value) < 1 << 63):
        raise _foreign_cursor()
    return int(value)


def _foreign_cursor() -> Problem:
    return invalid_fields(FieldError("cursor", "This cursor is not one of ours for this sort: begin without it."))
