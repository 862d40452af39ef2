"""The index of the words: which resumes were read, and which leads have a word in theirs.

With SQLite it is an FTS5 table without content (https://www.sqlite.org/fts5.html, 4.4.2), with PostgreSQL an array with
a GIN index. All of it can be made again from the resumes: no backup is needed, and `leads migrate` leaves it out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, Text, column, false, insert, literal_column, select, table, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session
from sqlmodel import col

from services.api.tables import Lead
from shared.database import table_of
from shared.dialect import POSTGRESQL

TEXTS = "resume_texts"
WORDS = "resume_words"
TABLES = frozenset({TEXTS, WORDS, *(f"{WORDS}_{part}" for part in ("config", "data", "docsize", "idx"))})
"""With SQLite; FTS5 makes the last four. PostgreSQL has the first alone."""

_texts: Any = table(
    TEXTS, column("number"), column("lead_id"), column("outcome"), column("words", postgresql.ARRAY(Text))
)
_words: Any = table(WORDS, column("rowid"), column("words"))
_ADD = text(
    f"INSERT INTO {TEXTS} (lead_id, outcome) VALUES (:lead_id, :outcome)"  # noqa: S608 - constants
    " ON CONFLICT DO NOTHING RETURNING number"
)


class ReadOutcome(StrEnum):
    """What became of reading a resume."""

    READ = "read"
    EMPTY = "empty"
    """There is no text in it: a picture of one, mostly."""
    UNREADABLE = "unreadable"
    """Damaged, locked, of a kind that is not read, or too much of it."""


@dataclass(frozen=True)
class Reading:
    """What was read of a lead's resume."""

    lead_id: str
    outcome: ReadOutcome
    words: Sequence[str] = ()


@dataclass(frozen=True)
class Unread:
    """A lead whose resume is to be read."""

    lead_id: str
    blob_id: str
    content_type: str
    size_bytes: int


def unread(session: Session, after: str, limit: int) -> list[Unread]:
    """The next leads behind the id `after` whose resumes were not read yet, in the order of ids."""
    read = select(_texts.c.lead_id).where(_texts.c.lead_id == col(Lead.id))
    leads = table_of(Lead).columns
    wanted = select(leads.id, leads.resume_path, leads.resume_content_type, leads.resume_size_bytes).where(
        leads.id > after, ~read.exists()
    )
    found = session.execute(wanted.order_by(leads.id).limit(limit))
    return [Unread(*row) for row in found]


def add(session: Session, reading: Reading) -> None:
    """Write down what was read. What another api has written down is left as it is."""
    row = {"lead_id": reading.lead_id, "outcome": reading.outcome}
    if session.get_bind().dialect.name == POSTGRESQL:
        session.execute(postgresql.insert(_texts).values(**row, words=list(reading.words)).on_conflict_do_nothing())
        return
    number = session.execute(_ADD, row).scalar()
    if number is not None and reading.words:
        session.execute(insert(_words).values(rowid=number, words=" ".join(reading.words)))


def leads_with(dialect: str, words: Sequence[str]) -> Select[Any]:
    """The ids of the leads in whose resumes all of `words` (as `words_of` makes them) are; no words, no leads."""
    found = select(_texts.c.lead_id)
    if not words:
        return found.where(false())
    if dialect == POSTGRESQL:
        return found.where(_texts.c.words.contains(list(words)))
    match = " ".join(f'"{word}"' for word in words)
    return found.join(_words, _words.c.rowid == _texts.c.number).where(literal_column(WORDS).op("MATCH")(match))
