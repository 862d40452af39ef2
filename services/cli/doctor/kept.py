"""A database that is looked at, and what its schema may be: the same for each kind."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from services.cli.doctor.report import Finding, failed, warning
from shared import mysql, postgresql
from shared.schema import SchemaState, compare, newest_version, too_new, why_no_version

CONNECTIONS_OF_A_ROOM = 8
ROOMS_EXPECTED = 3
"""api, notifier, and a command such as `leads audit`."""


class CannotAsk(Exception):  # noqa: N818
    """The database does not answer; the check of the databases tells why."""


@dataclass(frozen=True)
class Kept:
    """A database by its setting. `newest` is a query for its newest id, a UUIDv7."""

    setting: str
    url: str
    migrations: Path
    newest: str

    @property
    def is_mysql(self) -> bool:
        """Whether the URL names a MySQL or MariaDB."""
        return self.url.startswith(mysql.SCHEMES)

    @property
    def is_server(self) -> bool:
        """Whether the URL names a server, and no file."""
        return self.is_mysql or self.url.startswith(postgresql.SCHEMES)


def schema_faults(one: Kept, where: str, tables: Collection[str], version: str | None) -> Iterator[Finding]:
    """What is wrong with a database of these tables, whose migrations have come to `version`."""
    state = compare(version, one.migrations)
    if state is SchemaState.UNKNOWN:
        yield failed(
            "database",
            f"{where} {too_new(version, one.migrations)}.",
            f"Run that version of Leads on it, restore a backup, or set {one.setting} to another database.",
        )
    elif state is SchemaState.EMPTY and tables:
        said, mend = why_no_version(tables)
        yield failed("database", f"{where} {said}.", mend)
    elif state is SchemaState.EMPTY:
        yield warning("database", f"{where} is empty.", "The next start makes its tables.")
    elif state is SchemaState.OLDER:
        newest = newest_version(one.migrations)
        yield warning(
            "database",
            f"{where} is of the older schema {version}; this Leads has {newest}.",
            "Make a backup; the next start brings it up to date.",
        )


def too_few_connections(one: Kept, connections: int) -> Iterator[Finding]:
    """What is wrong with a server that takes so many."""
    needed = ROOMS_EXPECTED * CONNECTIONS_OF_A_ROOM
    if connections < needed:
        yield warning(
            "database",
            f"{one.setting}: that server takes {connections} connections; each room opens up to "
            f"{CONNECTIONS_OF_A_ROOM}.",
            f"Raise max_connections to {needed} or more.",
        )
