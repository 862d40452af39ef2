"""Whether a MySQL or MariaDB keeps what it answers, may be written, and has room for Leads' connections."""

from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.cli.doctor.kept import Kept, too_few_connections
from services.cli.doctor.report import Finding, failed
from shared import dialect

_ON = frozenset({"1", "ON"})


def server(session: Session) -> str:
    """The program and its version."""
    version = _value(session, "SELECT VERSION()").partition("-")
    return f"{'MariaDB' if 'mariadb' in version[2].lower() else 'MySQL'} {version[0]}"


def faults(session: Session, one: Kept) -> Iterator[Finding]:
    """What is wrong with the server."""
    if why := dialect.unfit(session.connection()):
        told, _, mend = why.partition(": ")
        yield failed("database", f"{one.setting}: that server {told}: leads answered with 201 are lost.", f"{mend}.")
    if _variable(session, "innodb_doublewrite").upper() in {"0", "OFF"}:
        yield failed(
            "database",
            f"{one.setting}: innodb_doublewrite is off: a crash may damage that server's tables.",
            "Set innodb_doublewrite = ON in its my.cnf.",
        )
    if _variable(session, "read_only").upper() in _ON:
        yield failed("database", f"{one.setting} leads to a server that may only be read.", "Name the primary.")
    yield from too_few_connections(one, int(_variable(session, "max_connections")))


def _variable(session: Session, name: str) -> str:
    return _value(session, f"SELECT @@GLOBAL.{name}")


def _value(session: Session, query: str) -> str:
    return str(session.execute(text(query)).scalar())
