"""Identifiers: UUIDv7 (RFC 9562), so that ids sort by the time they were made and indexes grow at one end."""

import re
from datetime import UTC, datetime
from uuid import UUID

from uuid_utils import uuid7

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def new_id() -> str:
    """A fresh UUIDv7 in its canonical lower-case form."""
    return str(uuid7())


def lowest_id(at: datetime) -> str:
    """The lowest UUIDv7 that could have been made at that instant: every later id sorts after it."""
    digits = f"{int(at.timestamp() * 1000):012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"


def made_at(time_ordered_id: str) -> datetime:
    """When a UUIDv7 was made: its first 48 bits are milliseconds since 1970 (RFC 9562, section 5.7)."""
    return datetime.fromtimestamp((UUID(time_ordered_id).int >> 80) / 1000, UTC)


def is_id(text: str) -> bool:
    """Whether `text` is a UUID in canonical lower-case form: the only shape that may name a blob."""
    return _UUID.fullmatch(text) is not None
