"""What counts of the queue tell, where the bus cannot say which events it has (RabbitMQ).

With N leads whose e-mails are outstanding and whose event is no dead letter, N events must be somewhere: ready, in a
retry level, or in the hands of a notifier. The last cannot be counted there, only bounded.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.notifier.delivery import HOLD_SECONDS
from shared.bus import QueueStats

DEAD_LETTERS_NAMED = 10_000
"""So many are looked at one by one; those beyond are only counted."""

LONGEST_SILENCE = timedelta(seconds=HOLD_SECONDS + 60)
"""While mail cannot be sent, a notifier keeps events in hand for up to `HOLD_SECONDS`, and tries one of them each time
the pause ends, which it writes down: if nothing was written for longer than this, none is in hand."""


def why_lost(
    owed: int, heard_at: datetime | None, stats: Sequence[QueueStats], *, in_hand_each: int, now: datetime
) -> str | None:
    """Why not all of `owed` leads wait for their e-mails; None when they may.

    `heard_at` is when something was last written down of any of them. `stats` are several counts: an event that moves
    from one queue to another may be missed by one of them.
    """
    seen = max(_visible(one) for one in stats)
    is_silent = heard_at is None or heard_at < now - LONGEST_SILENCE
    in_hand = 0 if is_silent else in_hand_each * max(one.consumers for one in stats)
    if owed <= seen + in_hand:
        return None
    return f"the queues hold only {seen} events for {owed} such leads"


def _visible(stats: QueueStats) -> int:
    """Without the dead letters that are known by name: most of theirs are settled, and would hide what is lost."""
    dead = max(0, stats.dead - DEAD_LETTERS_NAMED)
    return stats.ready + (stats.unacked or 0) + sum(stats.retrying.values()) + dead
