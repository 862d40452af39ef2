"""Leads as the list shows them, written as JSON: by SQLite itself while it finds them, else here.

Whatever writes it, it is to the byte what `LeadView` would be. To carry the columns over and to write them here costs
several times as much as the search (docs/decisions/0017-where-the-time-goes.md).
"""

from collections.abc import Callable, Sequence
from typing import Any

from pydantic_core import to_json
from sqlalchemy import ColumnElement, String, func, select, type_coerce
from sqlalchemy.orm import Session

from services.api.leads import shown
from services.api.tables import Lead, LeadRow
from shared.database import table_of
from shared.dialect import SQLITE

_LEADS = table_of(Lead)
_COLUMNS: Sequence[ColumnElement[Any]] = [_LEADS.c[name] for name in LeadRow._fields]

_KEPT_MOMENT = type_coerce(_LEADS.c.created_at, String)
"""SQLite keeps text: `2026-11-28 21:42:18.715915`, in UTC."""

_MOMENT = func.replace(func.replace(_KEPT_MOMENT, " ", "T").concat("Z"), ".000000Z", "Z")
_TEXT = func.json_object(
    *("id", _LEADS.c.id),
    *("first_name", _LEADS.c.first_name),
    *("last_name", _LEADS.c.last_name),
    *("email", _LEADS.c.email),
    *("resume_path", _LEADS.c.resume_path),
    "resume",
    func.json_object(
        *("filename", _LEADS.c.resume_filename),
        *("content_type", _LEADS.c.resume_content_type),
        *("size", _LEADS.c.resume_size_bytes),
        *("sha256", _LEADS.c.resume_sha256),
    ),
    *("state", _LEADS.c.state),
    *("created_at", _MOMENT),
    type_=String(),
)


def columns(dialect: str) -> Sequence[ColumnElement[Any]]:
    """What is to be selected of a lead."""
    return [_TEXT] if dialect == SQLITE else _COLUMNS


def writer(dialect: str) -> Callable[[Sequence[Any]], str]:
    """What makes the text of these columns."""
    return _written if dialect == SQLITE else _write


def of(session: Session, ids: Sequence[str]) -> list[str]:
    """The texts of these leads, in that order, as far as they exist."""
    dialect = session.get_bind().dialect.name
    found = session.connection().execute(select(_LEADS.c.id, *columns(dialect)).where(_LEADS.c.id.in_(ids)))
    text = writer(dialect)
    texts = {row[0]: text(row[1:]) for row in found}
    return [texts[lead_id] for lead_id in ids if lead_id in texts]


def _written(found: Sequence[Any]) -> str:
    return str(found[0])


def _write(found: Sequence[Any]) -> str:
    return to_json(shown(LeadRow._make(found))).decode()
