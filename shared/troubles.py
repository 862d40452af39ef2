"""What an error of a room's database asks of the person who can act, whichever engine keeps it."""

import socket
import sqlite3
from dataclasses import dataclass

from shared import postgresql, sqlite


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
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        return Trouble(postgresql.AWAY, is_lasting=False)
    return None
