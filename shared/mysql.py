"""MySQL's and MariaDB's answers: what their errors ask of the person who can act.

Knows no driver: errors are told apart by their numbers (https://mariadb.com/docs/server/reference/error-codes,
https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html), which are the same in both up to 1900.
"""

SCHEMES = ("mysql", "mariadb")
"""What their URLs begin with, whichever driver they name."""

_NO_ROOM = "has no room left on its disk: free some space; work then goes on by itself"
_READ_ONLY = "may only be read: is it a replica, or was read_only set? Name the primary"
_REFUSED = "refused the login: check the user, its host part, the password, and that GRANT gave it this database"
_NOT_ALLOWED = "does not let the user of the URL do what Leads must: GRANT ALL on that database to the user"
_TOO_SLOW = "took too long over a statement: see its load; work then goes on by itself"
_CONNECTIONS = "has no connection left: raise max_connections, or run fewer rooms on it"
_OWN_LIMIT = "gives the user of the URL no more: see its limits (SHOW CREATE USER) and max_user_connections"
_STOPPING = "is being stopped or started; work then goes on by itself"
_BROKEN = "broke the connection: see its log; work then goes on by itself"
_DAMAGED = "is damaged: see its log, and restore a backup"

_FILES = "cannot read or write its files: see its log, and how full its disk is"
_PLUGIN = (
    "asks for a way to sign in that is not known here: ALTER USER … IDENTIFIED WITH mysql_native_password, or MySQL's "
    "caching_sha2_password"
)
_NOT_YET = "does not let the user of the URL in yet: "

TELLING = {
    3: _FILES,
    1026: _FILES,
    1021: _NO_ROOM,
    1114: _NO_ROOM,
    1034: _DAMAGED,
    1712: _DAMAGED,
    1877: _DAMAGED,
    1040: _CONNECTIONS,
    1203: _OWN_LIMIT,
    1226: _OWN_LIMIT,
    1044: _REFUSED,
    1045: _REFUSED,
    1698: _REFUSED,
    1130: "does not let this machine in: the host part of the user must be this machine's address, or '%'",
    1129: "has blocked this machine after many errors: `mysqladmin flush-hosts` there",
    3159: "takes no connection without TLS: put `?ssl=required` behind the URL, or `?ssl=verify_identity`",
    1251: _PLUGIN,
    2059: _PLUGIN,
    2061: _PLUGIN,
    1820: f"{_NOT_YET}its password has expired",
    1862: f"{_NOT_YET}its password has expired",
    3118: f"{_NOT_YET}its account is locked",
    4151: f"{_NOT_YET}its account is locked",
    1665: "writes its binary log by statement, which is not right for what several do at once: binlog_format = ROW",
    1049: "does not exist: make it with `CREATE DATABASE` and give it to the user of the URL",
    1142: _NOT_ALLOWED,
    1227: _NOT_ALLOWED,
    1205: "is kept locked by another program: see SHOW PROCESSLIST; work then goes on by itself",
    1290: _READ_ONLY,
    1836: _READ_ONLY,
    1969: _TOO_SLOW,
    3024: _TOO_SLOW,
    1053: _STOPPING,
    1077: _STOPPING,
    1030: _FILES,
    1158: _BROKEN,
    1159: _BROKEN,
    1160: _BROKEN,
    1161: _BROKEN,
    1317: "was told to end a statement; work then goes on by itself",
    1047: "is not ready: is it a node of a cluster that has lost the others?",
    1927: _BROKEN,
    2006: _BROKEN,
    2013: _BROKEN,
    2014: _BROKEN,
}
"""By number; those from 2000 on are of the client's side."""

LASTING = frozenset(
    {1034, 1712, 1877, 1044, 1045, 1698, 1049, 1142, 1227, 1290, 1836, 1130, 1129, 3159, 1251, 2059, 2061, 1820, 1862}
    | {3118, 4151, 1665}
)
"""Errors that stay until somebody acts: to try again by itself does not help."""

COLLISIONS = frozenset({1213, 3101})
"""A deadlock; and in a group of servers, somebody else was first."""

ABSENCES = frozenset({2002, 2003, 2005})
"""Nobody answers there."""

_PASSING = frozenset({1053, 1077, 1158, 1159, 1160, 1161, 1927, 2006, 2013}) | ABSENCES


def number_of(error: BaseException | None) -> int:
    """The number that the server, or its driver, gave to an error, or to what caused it; 0 if none did."""
    while error is not None:
        error = getattr(error, "orig", None) or error
        if type(error).__module__.startswith("asyncmy") and error.args and isinstance(error.args[0], int):
            return error.args[0]
        error = error.__cause__
    return 0


def is_collision(error: BaseException) -> bool:
    """Whether the server ended a transaction because of another one: to begin it anew is safe, and helps."""
    return number_of(error) in COLLISIONS


def is_passing_absence(error: BaseException) -> bool:
    """Whether the server seems to be restarting: to ask for a connection again may help."""
    return isinstance(error, ConnectionError | TimeoutError) or number_of(error) in _PASSING
