"""The types of columns as migrations name them: what each engine must be told to keep the same with all of them.

Loaded by migrations alone: MySQL's types are megabytes that a room has no other use for.
"""

from sqlalchemy import DateTime, Float, LargeBinary, String
from sqlalchemy.dialects import mysql

from shared.dialect import MYSQL, POSTGRESQL

_BY_ITS_BYTES = "utf8mb4_bin"

_MOST_LETTERS = 380
"""An address of 254 bytes, case-folded, has no more; and an index may have two such columns, of 3,072 bytes in all."""

_by_bytes = String().with_variant(String(collation="C"), POSTGRESQL)

TEXT = _by_bytes.with_variant(mysql.VARCHAR(_MOST_LETTERS, collation=_BY_ITS_BYTES), MYSQL)
"""Text that is compared and sorted by its bytes, as SQLite does: the same order with each, and with any locale.

MySQL compares as if blanks followed: nothing that Leads keeps in such a column ends with one."""

LONG_TEXT = _by_bytes.with_variant(mysql.MEDIUMTEXT(collation=_BY_ITS_BYTES), MYSQL)
"""The same, of any length, for columns without an index."""

BYTES = LargeBinary().with_variant(mysql.MEDIUMBLOB(), MYSQL)

MOMENT = DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=6), MYSQL)
"""To the microsecond. Each engine is told to keep UTC."""

DOUBLE = Float().with_variant(mysql.DOUBLE(), MYSQL)
"""MySQL's FLOAT has 24 bits: a time of this century to two minutes."""
