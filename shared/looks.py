"""Many who ask, one trip to the database: each question is answered as if it had been the only one.

docs/decisions/0027-one-trip-for-many-questions.md
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from sqlalchemy.orm import Session
from structlog.contextvars import bound_contextvars, clear_contextvars

from shared.grouping import Grouping
from shared.observe import correlation_id
from shared.problems import Problem

HEAVIEST_TRIP = 64
PATIENCE_SECONDS = 0.05
"""Behind a trip that takes longer nobody waits: its connection may be lost."""

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")
Result = TypeVar("Result")

Look = Callable[[Session, Sequence[Item]], Sequence[Outcome | Problem]]
"""Gets what was asked, in the order it came, and answers with one outcome for each, in that order. A `Problem` among
them is raised to whom it belongs."""


class Reads(Protocol):
    """What looks need of a database."""

    is_file: bool

    async def read(self, work: Callable[[Session], Result]) -> Result: ...


@dataclass(frozen=True)
class _Asked:
    look: Look[Any, Any]
    item: Any
    weight: int
    correlation_id: str | None


class Looks:
    """Whoever asks while a trip is under way is of the next one: nobody is told what was so before he asked.

    With a file whatever is asked shares trips, since threads make them. With a server, which may keep one kind of
    question waiting or refuse it, each kind has trips of its own.
    """

    def __init__(self, database: Reads) -> None:
        self._database = database
        self._trips: dict[Look[Any, Any] | None, Grouping[_Asked, Any]] = {}

    async def ask(self, look: Look[Item, Outcome], item: Item, *, weight: int = 1) -> Outcome:
        """What `look` says of the item, which costs as much as looking for `weight` things.

        Raises `Problem` as `Database.read` does, or as `look` said.
        """
        kind = None if self._database.is_file else look
        trips = self._trips.get(kind) or self._trips.setdefault(kind, self._new_trips())
        outcome: Outcome | Problem = await trips.add(_Asked(look, item, weight, correlation_id()))
        if isinstance(outcome, Problem):
            raise outcome
        return outcome

    def _new_trips(self) -> Grouping[_Asked, Any]:
        return Grouping(
            self._trip, largest=HEAVIEST_TRIP, weigh=lambda asked: asked.weight, patience_seconds=PATIENCE_SECONDS
        )

    async def _trip(self, asked: Sequence[_Asked]) -> Sequence[Any]:
        clear_contextvars()  # they are of whose request began this
        try:
            with bound_contextvars(correlation_ids=[one.correlation_id for one in asked]):
                return await self._database.read(partial(_look_all, asked))
        except Problem as problem:
            return [copy(problem) for _ in asked]


def _look_all(asked: Sequence[_Asked], session: Session) -> list[Any]:
    """Each look once, for all who want it."""
    outcomes: list[Any] = [None] * len(asked)
    places: dict[Look[Any, Any], list[int]] = {}
    for place, one in enumerate(asked):
        places.setdefault(one.look, []).append(place)
    for look, whose in places.items():
        for place, outcome in zip(whose, look(session, [asked[place].item for place in whose]), strict=True):
            outcomes[place] = outcome
    return outcomes
