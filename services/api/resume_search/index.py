"""The index of the words: which resumes were read, and which leads have a word in theirs.

With SQLite it is an FTS5 table without content (https://www.sqlite.org/fts5.html, 4.4.2), with PostgreSQL an array with
a GIN index. All of it can be made again from the resumes: no backup is needed, and `leads migrate` leaves it out.

FTS5 gives its rows in the order of their numbers, and stops where nobody wants more. So a number is made of the moment
when the lead was sent: of a word that every second resume has the newest page costs no more than that of a rare one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, Text, column, false, literal_column, select, table, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from services.api.tables import Lead
from shared.database import as_utc, table_of
from shared.dialect import POSTGRESQL

TEXTS = "resume_texts"
WORDS = "resume_words"
TABLES = frozenset({TEXTS, WORDS, *(f"{WORDS}_{part}" for part in ("config", "data", "docsize", "idx"))})
"""With SQLite; FTS5 makes the last four. PostgreSQL has the first alone."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SAME_MOMENT_BITS = 11
"""Of a lead's id, which parts those of one microsecond. A number has 63 bits: that is enough until 2112."""

_texts: Any = table(
    TEXTS, column("number"), column("lead_id"), column("outcome"), column("words", postgresql.ARRAY(Text))
)
_words: Any = table(WORDS, column("rowid"))

_ADD_TEXT = text(
    "INSERT INTO resume_texts (number, lead_id, outcome) VALUES (:number, :lead_id, :outcome) ON CONFLICT DO NOTHING"
    " RETURNING number"
)
_IS_THERE = text("SELECT 1 FROM resume_texts WHERE lead_id = :lead_id")
_ADD_WORDS = text("INSERT INTO resume_words (rowid, words) VALUES (:number, :words)")
_BY_NUMBER = (
    # CROSS JOIN: FTS5 first (https://www.sqlite.org/optoverview.html, 7.1)
    "SELECT number, lead_id FROM resume_words CROSS JOIN resume_texts ON number = resume_words.rowid"
    " WHERE resume_words MATCH :match AND resume_words.rowid {} :place ORDER BY resume_words.rowid {} LIMIT :limit"
)
_DOWNWARDS, _UPWARDS = text(_BY_NUMBER.format("<", "DESC")), text(_BY_NUMBER.format(">", "ASC"))


class ReadOutcome(StrEnum):
    """What became of reading a resume."""

    READ = "read"
    EMPTY = "empty"
    """There is no text in it: a picture of one, mostly."""
    UNREADABLE = "unreadable"
    """Damaged, locked, of a kind that is not read, or too much of it."""


@dataclass(frozen=True)
class Unread:
    """A lead whose resume is to be read."""

    lead_id: str
    created_at: datetime
    blob_id: str
    content_type: str
    size_bytes: int


@dataclass(frozen=True)
class Reading:
    """What was read of the resume of the lead that was sent then."""

    lead_id: str
    created_at: datetime
    outcome: ReadOutcome
    words: Sequence[str] = ()


@dataclass(frozen=True)
class Found:
    """A lead that has the words, and its place among those that have them."""

    number: int
    lead_id: str


def unread(session: Session, after: str, limit: int) -> list[Unread]:
    """The next leads behind the id `after` whose resumes were not read yet, in the order of ids."""
    leads = table_of(Lead).columns
    read = select(_texts.c.lead_id).where(_texts.c.lead_id == leads.id)
    wanted = select(
        leads.id, leads.created_at, leads.resume_path, leads.resume_content_type, leads.resume_size_bytes
    ).where(leads.id > after, ~read.exists())
    return [Unread(*row) for row in session.execute(wanted.order_by(leads.id).limit(limit))]


def add(session: Session, reading: Reading) -> None:
    """Write down what was read. What another api has written down is left as it is."""
    row = {"lead_id": reading.lead_id, "outcome": reading.outcome}
    if session.get_bind().dialect.name == POSTGRESQL:
        session.execute(postgresql.insert(_texts).values(**row, words=list(reading.words)).on_conflict_do_nothing())
        return
    number = number_of(reading.lead_id, reading.created_at)
    while session.execute(_ADD_TEXT, {**row, "number": number}).first() is None:
        if session.execute(_IS_THERE, row).first() is not None:
            return
        number += 1
    if reading.words:
        session.execute(_ADD_WORDS, {"number": number, "words": " ".join(reading.words)})


def number_of(lead_id: str, created_at: datetime) -> int:
    """Where the lead stands by time, among all."""
    microseconds = (as_utc(created_at) - _EPOCH) // timedelta(microseconds=1)
    return (microseconds << _SAME_MOMENT_BITS) + (int(lead_id[-3:], 16) & ((1 << _SAME_MOMENT_BITS) - 1))


def by_time(session: Session, words: Sequence[str], *, place: int | None, descending: bool, limit: int) -> list[Found]:
    """The first `limit` leads by time that have all of `words`, behind `place`. With SQLite alone."""
    edge = (1 << 63) - 1 if descending else 0
    asked = {"match": _match(words), "place": edge if place is None else place, "limit": limit}
    return [Found(*row) for row in session.execute(_DOWNWARDS if descending else _UPWARDS, asked)]


def leads_with(dialect: str, words: Sequence[str]) -> Select[Any]:
    """The ids of the leads in whose resumes all of `words` (as `words_of` makes them) are; no words, no leads."""
    found = select(_texts.c.lead_id)
    if not words:
        return found.where(false())
    if dialect == POSTGRESQL:
        return found.where(_texts.c.words.contains(list(words)))
    return found.join(_words, _words.c.rowid == _texts.c.number).where(literal_column(WORDS).op("MATCH")(_match(words)))


def _match(words: Sequence[str]) -> str:
    """For FTS5: each of them, and nothing in them means anything."""
    return " ".join(f'"{word}"' for word in words)
