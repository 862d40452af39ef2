"""The staff's list of leads: filters, search, sort, and pages by cursor (keyset: a page costs what it holds)."""

import base64
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import BindParameter, ColumnElement, Integer, Select, bindparam, func, select, tuple_
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

LEADS_AS_ONE_LOOK = 10
"""So many leads of a page cost as much as to look for one thing."""

LOOKED_AT, LOOKED_AT_MOST = 300, 4_800
"""Leads that have a word and are held against the other filters at once: at first, and where few pass these."""

NO_NUL = r"^[^\x00]*$"
"""Pattern of texts that are looked for: PostgreSQL has no place for U+0000, so nothing of that kind is kept."""

_ESCAPE = "\\"
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

    @property
    def weight(self) -> int:
        """What it costs to find the page, in looks for one thing."""
        return 1 + self.limit // LEADS_AS_ONE_LOOK


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
    dialect = session.get_bind().dialect.name
    if query.resume and field == "created_at" and dialect != POSTGRESQL:
        return _page_by_words(session, query, words_of(query.resume), descending=descending)
    values = _values(query)
    statement = _page_of(dialect, query.sort, tuple(values), further=bool(query.cursor))
    if query.resume:
        statement = statement.where(_has_words(dialect, query.resume))
    if query.cursor:
        values["last_value"], values["last_id"] = _decode(query.cursor, query.sort)
    found = session.connection().execute(statement, {**values, "limit": query.limit + 1}).all()
    page = found[: query.limit]
    text = lead_texts.writer(dialect)
    cursor = _encode(query.sort, page[-1][1], page[-1][0]) if len(found) > query.limit else None
    return Page([text(row[2:]) for row in page], cursor)


@lru_cache(256)
def _page_of(dialect: str, sort: str, names: Sequence[str], *, further: bool) -> Select[Any]:
    """The statement for a page with these values, and for a `further` one, whose place is a value as well.

    To put it together costs more than to find the page.
    """
    field, descending = _sort(sort)
    column, lead_id = _LEADS.c[field], _LEADS.c.id
    # Some engines cannot tell two columns of one name apart, and the text may hold this one, too.
    shown = [lead_id, column.label("sorted_by"), *lead_texts.columns(dialect)]
    statement = select(*shown).where(*map(_condition, names))
    if further:
        value = bindparam("last_value", type_=column.type)
        place, last = tuple_(column, lead_id), tuple_(value, bindparam("last_id", type_=lead_id.type))
        statement = statement.where(place < last if descending else place > last)
        if dialect == MYSQL:  # it finds no place in an index by two columns at once
            statement = statement.where(column <= value if descending else column >= value)
    order = [column.desc(), lead_id.desc()] if descending else [column, lead_id]
    return statement.order_by(*order).limit(bindparam("limit", type_=Integer))


def _page_by_words(session: Session, query: LeadQuery, words: Sequence[str], *, descending: bool) -> Page:
    """A page by time of the leads that have the words: as many of those as fill it are looked at, and no more."""
    sort = f"{query.sort} of a resume"
    place = _decode_number(query.cursor, sort) if query.cursor else None
    values = _values(query)
    filtered = select(_LEADS.c.id).where(*map(_condition, values))
    leads: list[Found] = []
    at_once = LOOKED_AT
    while words and len(leads) <= query.limit:
        found = by_time(session, words, place=place, descending=descending, limit=at_once)
        among = filtered.where(_LEADS.c.id.in_([one.lead_id for one in found]))
        passing = set(session.connection().execute(among, values).scalars())
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
    values = _values(query)
    statement = select(func.count()).select_from(_LEADS).where(*map(_condition, values))
    if query.resume:
        statement = statement.where(_has_words(session.get_bind().dialect.name, query.resume))
    return int(session.connection().execute(statement, values).scalar_one())


def search_text(*parts: str) -> str:
    """The form in which names and addresses are compared: composed (NFC) and case-folded."""
    return unicodedata.normalize("NFC", " ".join(parts)).casefold()


def _values(query: LeadQuery) -> dict[str, Any]:
    """What is looked for, by the names of `_condition`. But words of the resume, which are found otherwise."""
    words = enumerate(search_text(query.words or "").split())
    values = {
        "state": query.state,
        "email_key": None if query.email is None else email_key(query.email),
        "created_after": query.created_after,
        "created_before": query.created_before,
        **{f"word_{number}": f"%{_literal(word)}%" for number, word in words},
    }
    return {name: value for name, value in values.items() if value is not None}


def _condition(name: str) -> ColumnElement[bool]:
    """What the value of that name must be to a lead."""
    value: BindParameter[Any] = bindparam(name)
    match name:
        case "state":
            return _LEADS.c.state == value
        case "email_key":
            return _LEADS.c.email_key == value
        case "created_after":
            return _LEADS.c.created_at > value
        case "created_before":
            return _LEADS.c.created_at < value
    return _LEADS.c.search_text.like(value, escape=_ESCAPE)


def _has_words(dialect: str, resume: str) -> ColumnElement[bool]:
    return _LEADS.c.id.in_(leads_with(dialect, words_of(resume)))


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
        value = _moment(place.value) if sort.endswith("created_at") else place.value
    except (ValueError, OverflowError):
        raise _foreign_cursor() from None
    if place.sort != sort:
        raise _foreign_cursor()
    return value, place.lead_id


def _moment(text: str) -> datetime:
    """In UTC, as all are kept. Raises `ValueError`, and `OverflowError` for one that has no place there."""
    return as_utc(datetime.fromisoformat(text)).astimezone(UTC)


def _decode_number(cursor: str, sort: str) -> int:
    value = str(_decode(cursor, sort)[0])
    if not (value.isascii() and value.isdecimal() and int(value) < 1 << 63):
        raise _foreign_cursor()
    return int(value)


def _foreign_cursor() -> Problem:
    return invalid_fields(FieldError("cursor", "This cursor is not one of ours for this sort: begin without it."))
