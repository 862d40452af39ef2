"""What an error of a room's database asks of the person who can act, whichever engine keeps it."""

import socket
import sqlite3
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from shared import mysql, postgresql, sqlite

AWAY = "does not answer: check that its server runs there and can be reached; work then goes on by itself"
NO_TLS = "does not speak TLS as the URL asks for it: see what `ssl` says there, and whose certificate that server has"

_BROKEN_OFF = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


@dataclass(frozen=True)
class Trouble:
    """`words` end a sentence that begins with the database. What is lasting stays until somebody acts."""

    words: str
    is_lasting: bool


def trouble_of(error: BaseException) -> Trouble | None:
    """What is wrong with the database; None for an error that is a defect of ours, as a wrong statement is."""
    said = getattr(error, "orig", None) or error
    if isinstance(said, sqlite3.Error):
        code = sqlite.primary_code(said)
        return Trouble(sqlite.TELLING[code], code in sqlite.LASTING) if code in sqlite.TELLING else None
    key = postgresql.known_as(postgresql.sqlstate(error))
    if key is not None:
        return Trouble(postgresql.TELLING[key], key in postgresql.LASTING)
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return Trouble(NO_TLS, is_lasting=not isinstance(cause, _BROKEN_OFF))
    number = mysql.number_of(error)
    if number in mysql.TELLING:
        return Trouble(mysql.TELLING[number], number in mysql.LASTING)
    if number in mysql.ABSENCES or isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return Trouble(AWAY, is_lasting=False)
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__
