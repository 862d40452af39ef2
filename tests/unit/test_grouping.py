"""Callers share work: nobody waits for a timer, nor for long behind others, nor pays for what a neighbour sent."""

import asyncio
import contextlib

from shared.grouping import Grouping
from shared.problems import Problem, ProblemType


class Work:
    """Work that is done when it is told to be."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.gates: list[asyncio.Event] = []

    async def __call__(self, items: list[str]) -> list[str]:
        self.groups.append(list(items))
        self.gates.append(asyncio.Event())
        await self.gates[-1].wait()
        return [f"did {item}" for item in items]

    async def finish(self, number: int) -> None:
        """Let that group be done, and whoever waited for it go on."""
        self.gates[number].set()
        for _ in range(5):
            await asyncio.sleep(0)


async def add(grouping: Grouping[str, str], *items: str) -> list[asyncio.Task[str]]:
    tasks = [asyncio.create_task(grouping.add(item)) for item in items]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_whoever_comes_while_a_group_is_under_way_makes_the_next_one():
    work = Work()
    grouping = Grouping(work, largest=3)
    tasks = await add(grouping, "a")
    tasks += await add(grouping, "b", "c", "d", "e")
    assert work.groups == [["a"]]
    for number in range(3):
        await work.finish(number)
    assert work.groups == [["a"], ["b", "c", "d"], ["e"]]
    assert await asyncio.gather(*tasks) == ["did a", "did b", "did c", "did d", "did e"]


async def test_a_group_holds_no_more_than_it_may_weigh_but_one_at_least():
    work = Work()
    grouping = Grouping(work, largest=4, weigh=len)
    tasks = await add(grouping, "first", "aa", "bb", "c", "longest", "d")
    for number in range(4):
        await work.finish(number)
    assert work.groups == [["first"], ["aa", "bb"], ["c"], ["longest"], ["d"]]
    await work.finish(4)
    assert await asyncio.gather(*tasks) == [f"did {item}" for group in work.groups for item in group]


async def test_behind_a_group_that_takes_long_nobody_waits_also_if_nobody_comes_after():
    work = Work()
    grouping = Grouping(work, largest=2, patience_seconds=0.02)
    tasks = await add(grouping, "a")
    tasks += await add(grouping, "b", "c", "d")
    assert work.groups == [["a"]]
    await asyncio.sleep(0.1)
    assert work.groups == [["a"], ["b", "c"], ["d"]], "each beside the one before, after a while"
    for number in range(3):
        await work.finish(number)
    assert await asyncio.gather(*tasks) == ["did a", "did b", "did c", "did d"]


async def test_few_large_groups_go_on_with_what_waits():
    work = Work()
    grouping = Grouping(work, largest=3, patience_seconds=0.2)
    tasks = await add(grouping, "a")
    tasks += await add(grouping, "b")
    await asyncio.sleep(0.21)
    tasks += await add(grouping, "c")
    await work.finish(0)
    assert work.groups == [["a"], ["b"]], "the second has taken no time yet"
    tasks += await add(grouping, "d")
    await work.finish(1)
    assert work.groups[2:] == [["c", "d"]]
    await work.finish(2)
    assert await asyncio.gather(*tasks) == ["did a", "did b", "did c", "did d"]


async def test_one_that_comes_last_is_not_forgotten_when_the_groups_before_it_end():
    work = Work()
    grouping = Grouping(work, largest=1, patience_seconds=0.0)
    tasks = await add(grouping, "a", "b", "c")
    for number in (2, 0, 1):
        await work.finish(number)
    assert await asyncio.wait_for(asyncio.gather(*tasks), 1) == ["did a", "did b", "did c"]
    tasks = await add(grouping, "d")
    await work.finish(3)
    assert await tasks[0] == "did d"


async def test_what_a_neighbour_sent_refuses_nobody():
    async def work(items: list[str]) -> list[str]:
        if "bad" in items:
            raise ValueError(items)
        return items

    grouping = Grouping(work, largest=4)
    outcomes = await asyncio.gather(*(grouping.add(item) for item in ("a", "bad", "b")), return_exceptions=True)
    assert outcomes[0] == "a"
    assert outcomes[2] == "b"
    assert str(outcomes[1]) == "['bad']"


async def test_a_problem_is_told_at_once_to_those_who_wait_as_well_and_to_nobody_after_them():
    away = Problem(ProblemType.UNAVAILABLE, "away")
    asked = asyncio.Event()

    async def work(items: list[str]) -> list[str]:
        if not asked.is_set():
            await asked.wait()
            raise away
        return items

    grouping = Grouping(work, largest=1)
    tasks = await add(grouping, "a", "b", "c")
    asked.set()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [away] * 3
    assert await grouping.add("d") == "d"


async def test_who_goes_away_takes_nobody_along():
    work = Work()
    grouping = Grouping(work, largest=3)
    first, second, third = await add(grouping, "a", "b", "c")
    second.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await second
    await work.finish(0)
    assert await asyncio.gather(first, third) == ["did a", "did c"]


async def test_work_that_answers_to_fewer_is_a_defect_that_is_told():
    async def work(_items: list[str]) -> list[str]:
        return []

    grouping = Grouping(work, largest=2)
    outcomes = await asyncio.gather(*await add(grouping, "a", "b"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ValueError, ValueError]


async def test_no_more_go_beside_one_another_than_may():
    work = Work()
    grouping = Grouping(work, largest=1, patience_seconds=0.0, at_most=2)
    tasks = await add(grouping, *"abcd")
    assert work.groups == [["a"], ["b"]]
    for number in range(4):
        await work.finish(number)
    assert await asyncio.gather(*tasks) == ["did a", "did b", "did c", "did d"]


async def test_work_that_is_cancelled_leaves_nobody_waiting():
    async def work(_items: list[str]) -> list[str]:
        raise asyncio.CancelledError

    grouping = Grouping(work, largest=2)
    outcomes = await asyncio.gather(*await add(grouping, "a", "b"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
