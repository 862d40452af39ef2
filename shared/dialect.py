"""What SQLite and PostgreSQL say differently inside of a transaction. All else SQLAlchemy says for both."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, String, Table, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

POSTGRESQL = "postgresql"

TEXT = String().with_variant(String(collation="C"), POSTGRESQL)
"""Text that is compared and sorted by its bytes, as SQLite does: the same order with either, and with any locale."""

_LOCKS = text(
    "SELECT pg_advisory_xact_lock(lock) FROM"
    " (SELECT hashtextextended(name, 0) AS lock FROM unnest(CAST(:names AS text[])) AS name ORDER BY 1) AS sorted"
)


def insert_new(session: Session, table: Table) -> Any:
    """An INSERT into `table` that leaves out rows that some unique index already knows."""
    return _insert_new(session.get_bind().dialect.name, table)


def take_turns(session: Session, names: Sequence[str]) -> None:
    """Nobody else who takes one of these turns goes on before this transaction has ended.

    What was committed before is seen by the statements after it. With SQLite only one transaction writes at a time.
    """
    _lock(session.connection(), names)


def wait_for_writers(session: Session, table: Table) -> None:
    """Whoever has begun to write to `table` has ended when this returns: what is not there now will not appear.

    To be asked first of all in a transaction, also in one that only reads. With SQLite a commit whose caller was told
    of a failure has always ended by then.
    """
    connection = session.connection()
    if connection.dialect.name == POSTGRESQL:
        connection.execute(text("SET TRANSACTION READ WRITE"))  # a lock counts as a write
        connection.execute(text(f"LOCK TABLE {table.name} IN SHARE MODE"))


def begin_migration(connection: Connection) -> None:
    """Take turns at bringing the schema up to date, for as long as that takes, and see to it that PostgreSQL has it."""
    if connection.dialect.name != POSTGRESQL:
        return
    schema = connection.execute(text("SHOW search_path")).scalar_one()
    connection.execute(text("SET LOCAL lock_timeout = 0"))
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    _lock(connection, [f"migrate {schema}"])
    if connection.execute(text("SELECT to_regnamespace(:schema)"), {"schema": schema}).scalar() is None:
        connection.execute(text(f"CREATE SCHEMA {schema}"))


def _lock(connection: Connection, names: Sequence[str]) -> None:
    if names and connection.dialect.name == POSTGRESQL:
        connection.execute(_LOCKS, {"names": list(names)})


@cache
def _insert_new(dialect: str, table: Table) -> Any:
    insert = postgresql.insert if dialect == POSTGRESQL else sqlite.insert
    return insert(table).on_conflict_do_nothing()
