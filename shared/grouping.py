"""Many callers, one piece of work: while one group is under way, the next gathers. A lone one never waits."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from shared.problems import Problem

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


NOW_SECONDS = 0.001
"""What is due within this is due: the loop's clock and its timers are no finer."""


class Grouping(Generic[Item, Outcome]):
    """Works off what is added, in groups of at most `largest`, one after the other.

    An item counts as one, or as much as `weigh` says; one that weighs more than all goes by itself.

    Behind one that takes longer than `patience_seconds` nobody waits: the next goes beside it, up to `at_most`.

    `work` gets the items of a group in the order they came and answers with one outcome for each, in that order. A
    group that fails is tried again one by one, so that nobody is refused for what a neighbour sent. But a `Problem` is
    everybody's, also of those who wait: work that has a `Problem` for one of a group gives it as that one's outcome.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[Sequence[Outcome]]],
        *,
        largest: int,
        weigh: Callable[[Item], int] = lambda _: 1,
        patience_seconds: float = math.inf,
        at_most: int = 16,
    ) -> None:
        self._work = work
        self._largest = largest
        self._weigh = weigh
        self._patience_seconds = patience_seconds
        self._at_most = at_most
        self._next_beside_at = 0.0
        """From when on another group may go beside those under way (event loop's time)."""
        self._busy = 0
        self._look_again: asyncio.TimerHandle | None = None
        self._waiting: list[tuple[Item, asyncio.Future[Outcome]]] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def add(self, item: Item) -> Outcome:
        """The item's outcome, once its group is done. Raises what the work raised."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._begin_if_it_is_time()
        return await future

    def _begin_if_it_is_time(self) -> None:
        """With what waits, if anything does. Else look again when it is."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            return
        if self._busy and loop.time() + NOW_SECONDS < self._next_beside_at:
            if self._look_again is None and self._next_beside_at < math.inf:
                self._look_again = loop.call_at(self._next_beside_at, self._look)
            return
        if self._busy >= self._at_most:
            return  # the first that ends takes what waits
        self._busy += 1
        self._next_beside_at = loop.time() + self._patience_seconds
        task = asyncio.create_task(self._work_off())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _look(self) -> None:
        self._look_again = None
        self._begin_if_it_is_time()

    async def _work_off(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                self._next_beside_at = loop.time() + self._patience_seconds
                group = self._next_group()
                self._begin_if_it_is_time()
                await self._do(group)
                if self._busy > 1 and loop.time() < self._next_beside_at:
                    return  # the others go on with what waits: few large groups are cheaper than many small ones
        finally:
            self._busy -= 1

    def _next_group(self) -> Sequence[tuple[Item, "asyncio.Future[Outcome]"]]:
        count, weight = 0, 0
        for item, _ in self._waiting:
            weight += self._weigh(item)
            if count and weight > self._largest:
                break
            count += 1
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        return group

    async def _do(self, group: Sequence[tuple[Item, "asyncio.Future[Outcome]"]]) -> None:
        try:
            outcomes = await self._work([item for item, _ in group])
            told = list(zip(group, outcomes, strict=True))
        except Exception as error:  # noqa: BLE001 - handed to the callers, who wait for nothing else
            await self._after_failure(group, error)
            return
        except BaseException:
            for _, future in group:
                future.cancel()
            raise
        for (_, future), outcome in told:
            if not future.done():
                future.set_result(outcome)

    async def _after_failure(self, group: Sequence[tuple[Item, "asyncio.Future[Outcome]"]], error: Exception) -> None:
        if isinstance(error, Problem):
            # Whoever came meanwhile would be told the same, after waiting for as long once more.
            group, self._waiting = [*group, *self._waiting], []
        elif len(group) > 1:
            for one in group:
                await self._do([one])
            return
        for _, future in group:
            if not future.done():
                future.set_exception(error)
