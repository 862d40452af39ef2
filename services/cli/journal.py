"""What the supervisor says while rooms run: log lines that never get in the way of the running."""

import logging
from contextlib import suppress

import structlog

_log = structlog.get_logger()


def note(event: str, **fields: object) -> None:
    """Something expected happened."""
    _say(logging.INFO, event, fields)


def warn(event: str, **fields: object) -> None:
    """Something went wrong that the supervisor deals with."""
    _say(logging.WARNING, event, fields)


def alarm(event: str, **fields: object) -> None:
    """Something went wrong, and it costs something."""
    _say(logging.ERROR, event, fields)


def _say(level: int, event: str, fields: dict[str, object]) -> None:
    with suppress(OSError):  # a terminal that was closed, a pipe nobody reads: the rooms are still stopped in order
        _log.log(level, event, **fields)
