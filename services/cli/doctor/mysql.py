"""Whether a MySQL or MariaDB keeps what it answers, may be written, and has room for Leads' connections."""

from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.orm import Session

from services.cli.doctor.kept import Kept, too_few_connections
from services.cli.doctor.report import Finding, failed, warning
from shared import dialect

_ON = frozenset({"1", "ON"})
_PAGES_ARE_WHOLE = _ON | {"FAST", "DETECT_AND_RECOVER"}
"""Values of `innodb_doublewrite` with which a page that was half written is mended."""


def server(session: Session) -> str:
    """The program and its version."""
    version = _value(session, "SELECT VERSION()").partition("-")
    return f"{'MariaDB' if 'mariadb' in version[2].lower() else 'MySQL'} {version[0]}"


def faults(session: Session, one: Kept) -> Iterator[Finding]:
    """What is wrong with the server."""
    if fault := dialect.unfit(session.connection()):
        told = f"{one.setting}: that server {fault.why}: leads answered with 201 are lost."
        yield failed("database", told, f"{fault.mend}.")
    if _variable(session, "innodb_doublewrite").upper() not in _PAGES_ARE_WHOLE:
        yield failed(
            "database",
            f"{one.setting}: innodb_doublewrite is off: a crash may damage that server's tables.",
            "Set innodb_doublewrite = ON in its my.cnf.",
        )
    if _variable(session, "read_only").upper() in _ON:
        yield failed("database", f"{one.setting} leads to a server that may only be read.", "Name the primary.")
    if session.execute(text("SHOW GLOBAL VARIABLES LIKE 'wsrep_on'")).first() == ("wsrep_on", "ON"):
        yield warning(
            "database",
            f"{one.setting} leads into a Galera cluster, whose nodes do not know of each other's locks.",
            "Let every process of Leads use the same node, without a proxy that spreads what is read.",
        )
    yield from too_few_connections(one, int(_variable(session, "max_connections")))


def _variable(session: Session, name: str) -> str:
    return _value(session, f"SELECT @@GLOBAL.{name}")


def _value(session: Session, query: str) -> str:
    return str(session.execute(text(query)).scalar())
