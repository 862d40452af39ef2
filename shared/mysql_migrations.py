"""Alembic on MySQL and MariaDB: what a migration that was cut has done already is passed over.

Each change of a table is committed by itself there (https://dev.mysql.com/doc/refman/8.4/en/implicit-commit.html), and
is whole or not there at all, so whoever comes next repeats the migration from its beginning. What changes rows must be
written so that it may run twice.
"""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.ddl.base import AddColumn, DropColumn
from alembic.ddl.mysql import MySQLImpl
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import AddConstraint, CreateIndex, CreateTable, DropIndex, DropTable

from shared.dialect import TURNS, TURNS_COUNT
from shared.mysql import number_of

DONE_BEFORE: Mapping[type[Any], int] = {
    CreateTable: 1050,
    AddColumn: 1060,
    CreateIndex: 1061,
    DropTable: 1051,
    DropColumn: 1091,
    DropIndex: 1091,
    AddConstraint: 1061,
}
"""By what is asked for: the number of the error that says that it is there already, or gone already."""


class ResumedMySQL(MySQLImpl):
    """Takes the place of Alembic's own by its `__dialect__`."""

    __dialect__ = "mysql"

    def _exec(self, construct: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super()._exec(construct, *args, **kwargs)
        except DBAPIError as error:
            if DONE_BEFORE.get(type(construct)) != number_of(error):
                raise
            return None


def make_turns() -> None:
    """The rows that `dialect.take_turns` locks."""
    number = sa.Column("number", sa.Integer(), primary_key=True, autoincrement=False)
    turns = op.create_table(TURNS, number)
    rows = mysql.insert(turns).values([{"number": one} for one in range(TURNS_COUNT)])
    op.execute(rows.on_duplicate_key_update(number=turns.c.number))
