"""What SQLite, PostgreSQL and MySQL (or MariaDB) say differently inside of a transaction. All else SQLAlchemy says."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import structlog
from sqlalchemy import Column, Connection, Select, Table, Update, bindparam, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

SQLITE, POSTGRESQL, MYSQL = "sqlite", "postgresql", "mysql"
"""MariaDB is MySQL here. Where they differ SQLAlchemy knows it, but for the names of a limit."""

log = structlog.get_logger()

TURNS = "turns"
TURNS_COUNT = 1024
"""MySQL's locks of names outlive a transaction, so rows of a table of its own are locked instead, one for many names:
who shares a row by chance waits once more than he must."""

_PG_LOCKS = text(
    "SELECT pg_advisory_xact_lock(lock) FROM"
    " (SELECT hashtextextended(name, 0) AS lock FROM unnest(CAST(:names AS text[])) AS name ORDER BY 1) AS sorted"
)
_MYSQL_LOCKS = text(
    f"SELECT number FROM {TURNS} FORCE INDEX (PRIMARY) WHERE number IN :numbers ORDER BY number FOR UPDATE"  # noqa: S608
).bindparams(bindparam("numbers", expanding=True))

_FLUSHED = {True: frozenset({1, 3}), False: frozenset({1})}
"""Of a MariaDB, and of a MySQL: values of `innodb_flush_log_at_trx_commit` with which a commit is on the disk."""

_MIGRATION_LOCK = text("SELECT GET_LOCK(CONCAT('leads migrate ', MD5(DATABASE())), 5)")
"""Asked for again and again: no statement may take longer than it may."""


def insert_new(session: Session, table: Table, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Insert those of `rows` that no unique index knows already, and give back the ids of these."""
    connection = session.connection()
    statement = _insert_new(connection.dialect.name, table)
    if connection.dialect.name != MYSQL:
        return set(connection.execute(statement, rows).scalars())
    there = select(table.c.id).where(table.c.id.in_([row["id"] for row in rows]))
    before = set(connection.execute(there).scalars())
    connection.execute(statement, rows)
    return set(connection.execute(there).scalars()) - before


def update_rows(session: Session, statement: Update, key: Column[str], values: Mapping[str, Any]) -> set[str]:
    """Update, and give back the `key` of each row that was updated."""
    connection = session.connection()
    if connection.dialect.name != MYSQL:
        return set(connection.execute(_returning(statement, key), values).scalars())
    found = set(connection.execute(_locking(statement, key), values).scalars())
    if found:
        connection.execute(statement, values)
    return found


def take_turns(session: Session, names: Sequence[str]) -> None:
    """Nobody else who takes one of these turns goes on before this transaction has ended.

    What was committed before is seen by the statements after it. With SQLite only one transaction writes at a time.
    """
    _lock(session.connection(), names)


def after_writers(session: Session, table: Table, statement: Select[Any]) -> Select[Any]:
    """`statement`, to be asked when whoever has begun to write what it looks for in `table` has ended.

    What it does not find then will not appear. To be asked first of all in a transaction, also in one that only reads.
    With SQLite a commit whose caller was told of a failure has always ended by then.
    """
    connection = session.connection()
    if connection.dialect.name == MYSQL:
        return statement.with_for_update(read=True)
    if connection.dialect.name == POSTGRESQL:
        connection.execute(text("SET TRANSACTION READ WRITE"))  # a lock counts as a write
        connection.execute(text(f"LOCK TABLE {table.name} IN SHARE MODE"))
    return statement


@contextmanager
def migrating(connection: Connection) -> Iterator[None]:
    """The turn to bring the schema up to date, for as long as that takes, and a transaction around it.

    MySQL commits it at each change of a table: `commits_each_step`.
    """
    if connection.dialect.name == MYSQL:
        with _alone(connection), connection.begin():
            yield
        return
    with connection.begin():
        if connection.dialect.name == POSTGRESQL:
            _begin_in_postgresql(connection)
        yield


def commits_each_step(connection: Connection) -> bool:
    """Whether each change of a table is committed by itself: a migration that is cut is found half done."""
    return connection.dialect.name == MYSQL


def own_database(connection: Connection) -> str:
    """What else may be the matter with a schema of another version: PostgreSQL's rooms have schemas of their own."""
    return " With MySQL each service needs a database of its own." if connection.dialect.name == MYSQL else ""


@dataclass(frozen=True)
class Unfit:
    """Why what a server commits would not be safe: ends a sentence that begins with the server. And what to do."""

    why: str
    mend: str


def unfit(connection: Connection) -> Unfit | None:
    """What is wrong with the server's own settings; None where they are safe, or where we see to it.

    With a binary log a transaction that is not in it is taken back after a crash, although InnoDB has it:
    https://dev.mysql.com/doc/refman/8.4/en/replication-options-binary-log.html#sysvar_sync_binlog.
    """
    if connection.dialect.name != MYSQL:
        return None
    asked = text("SELECT @@GLOBAL.innodb_flush_log_at_trx_commit, @@GLOBAL.log_bin, @@GLOBAL.sync_binlog")
    flush, log_bin, sync = (int(value) for value in connection.execute(asked).one())
    if flush not in _FLUSHED[connection.dialect.is_mariadb]:  # type: ignore[attr-defined]
        name, value = "innodb_flush_log_at_trx_commit", flush
    elif log_bin and sync != 1:
        name, value = "sync_binlog", sync
    else:
        return None
    why = f"forgets what it committed when its machine stops ({name} is {value})"
    return Unfit(why, f"SET GLOBAL {name} = 1, also in its configuration")


def _begin_in_postgresql(connection: Connection) -> None:
    schema = connection.execute(text("SHOW search_path")).scalar_one()
    connection.execute(text("SET LOCAL lock_timeout = 0"))
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    _lock(connection, [f"migrate {schema}"])
    if connection.execute(text("SELECT to_regnamespace(:schema)"), {"schema": schema}).scalar() is None:
        connection.execute(text(f"CREATE SCHEMA {schema}"))


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    """MySQL commits at each change of a table, so the turn is the session's, and ends with it: it is not used again."""
    try:
        with connection.begin():
            if connection.dialect.is_mariadb:  # type: ignore[attr-defined]
                connection.execute(text("SET SESSION max_statement_time = 0"))
            connection.execute(text("SET SESSION lock_wait_timeout = 86400"))
            while (turn := connection.execute(_MIGRATION_LOCK).scalar()) == 0:
                log.info("another process brings the database up to date")
            if turn is None:
                raise RuntimeError("the server could not give the turn to bring the database up to date")
        yield
    finally:
        connection.invalidate()


def _lock(connection: Connection, names: Sequence[str]) -> None:
    if not names:
        return
    if connection.dialect.name == POSTGRESQL:
        connection.execute(_PG_LOCKS, {"names": list(names)})
    elif connection.dialect.name == MYSQL:
        numbers = {zlib.crc32(name.encode()) % TURNS_COUNT for name in names}
        if len(connection.execute(_MYSQL_LOCKS, {"numbers": sorted(numbers)}).all()) != len(numbers):
            raise RuntimeError(f"the table {TURNS} has lost rows: it must have the numbers from 0 to {TURNS_COUNT - 1}")


@cache
def _insert_new(dialect: str, table: Table) -> Any:
    if dialect == MYSQL:
        from sqlalchemy.dialects import mysql  # megabytes that no other engine has a use for

        return mysql.insert(table).on_duplicate_key_update(id=table.c.id)  # IGNORE would leave out what is wrong, too
    insert = postgresql.insert if dialect == POSTGRESQL else sqlite.insert
    return insert(table).on_conflict_do_nothing().returning(table.c.id)


@cache
def _returning(statement: Update, key: Column[str]) -> Any:
    return statement.returning(key)


@cache
def _locking(statement: Update, key: Column[str]) -> Any:
    assert statement.whereclause is not None
    return select(key).where(statement.whereclause).with_for_update()
