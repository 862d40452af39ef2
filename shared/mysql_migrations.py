"""Alembic on MySQL and MariaDB: what a migration that was cut has done already is passed over.

Each change of a table is committed by itself there (https://dev.mysql.com/doc/refman/8.4/en/implicit-commit.html), and
is whole or not there at all, so whoever comes next repeats the migration from its beginning.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.ddl.mysql import MySQLImpl
from sqlalchemy.exc import DBAPIError

from shared.dialect import TURNS, TURNS_COUNT
from shared.mysql import DONE_BEFORE, number_of


class ResumedMySQL(MySQLImpl):
    """Takes the place of Alembic's own by its `__dialect__`."""

    __dialect__ = "mysql"

    def _exec(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super()._exec(*args, **kwargs)
        except DBAPIError as error:
            if number_of(error) not in DONE_BEFORE:
                raise
            return None


def make_turns() -> None:
    """The rows that `dialect.take_turns` locks."""
    turns = op.create_table(TURNS, sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False))
    op.bulk_insert(turns, [{"number": number} for number in range(TURNS_COUNT)], multiinsert=True)
