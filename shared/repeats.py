"""Keeps a log readable while something is wrong for long: said at once, again when it changes, and once a minute."""

import re
import time
from collections.abc import Callable

SAY_AGAIN_SECONDS = 60.0
"""Often enough for who has just begun to look, seldom enough to leave the log to others."""

_COUNTS = re.compile(r"\d+")


class Repeats:
    """One trouble that may last. What only counts on ("3 of 5 messages", a port, a time) is no news."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: str | None = None
        self._said_at = 0.0

    def is_news(self, reason: str) -> bool:
        """Whether `reason` should be said now. Counts as said then."""
        essence = _COUNTS.sub("", reason)
        now = self._clock()
        if essence == self._said and now - self._said_at < SAY_AGAIN_SECONDS:
            return False
        self._said, self._said_at = essence, now
        return True

    def over(self) -> None:
        """The trouble is over: the next one is news, whatever it is."""
        self._said = None
