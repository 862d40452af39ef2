"""PostgreSQL's answers: which schema is whose, and what its errors ask of the person who can act.

Knows no driver: errors are told apart by their SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html).
"""

from collections.abc import Mapping

SCHEMAS: Mapping[str, str] = {"LEADS_DATABASE_URL": "api", "LEADS_NOTIFIER_DATABASE_URL": "notifier"}
"""Each room's tables have a schema of their own, so that both may share one database."""

SCHEMES = ("postgresql", "postgres")
"""What its URLs begin with, whichever driver they name."""

TELLING = {
    "08": "broke the connection: see its log; work then goes on by itself",
    "25006": "may only be read: is it a standby, or was default_transaction_read_only set? Name the primary",
    "28": "refused the login: check the user, the password and pg_hba.conf",
    "3D000": "does not exist: make it with `createdb`",
    "42501": "does not let the user of the URL do what Leads must: make that user the owner of the database, or of its "
    "schemas `api` and `notifier`",
    "53100": "has no room left on its disk: free some space; work then goes on by itself",
    "53200": "is out of memory: see its log; work then goes on by itself",
    "53300": "has no connection left: raise max_connections, or run fewer rooms on it",
    "55P03": "is kept locked by another program: see pg_stat_activity; work then goes on by itself",
    "57014": "took too long over a statement: see its load; work then goes on by itself",
    "57P": "is being stopped or started; work then goes on by itself",
    "58": "cannot read or write its files: see its log",
    "XX001": "is damaged: see its log, and restore a backup",
    "XX002": "has a damaged index: see its log, and REINDEX it",
}
"""By SQLSTATE, or by what it begins with."""

LASTING = frozenset({"25006", "28", "3D000", "42501", "XX001", "XX002"})
"""Errors that stay until somebody acts: to try again by itself does not help."""

_COLLISIONS = frozenset({"40001", "40P01"})
_PASSING = ("08", "57P")
_ABSENCES = (ConnectionError, TimeoutError)


def sqlstate(error: BaseException | None) -> str:
    """The SQLSTATE that the server gave to an error, or to what caused it; empty if it gave none."""
    while error is not None:
        error = getattr(error, "orig", None) or error
        if state := getattr(error, "sqlstate", None):
            return str(state)
        error = error.__cause__
    return ""


def known_as(state: str) -> str | None:
    """The key of `TELLING` for this SQLSTATE."""
    return next((key for key in TELLING if state and state.startswith(key)), None)


def is_collision(error: BaseException) -> bool:
    """Whether the server ended a transaction because of another one: to begin it anew is safe, and helps."""
    return sqlstate(error) in _COLLISIONS


def is_passing_absence(error: BaseException) -> bool:
    """Whether the server seems to be restarting: to ask for a connection again may help."""
    return isinstance(error, _ABSENCES) or sqlstate(error).startswith(_PASSING)
