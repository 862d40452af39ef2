"""kill -9 and SIGTERM of a room at every step of a lead's way: all that was answered is kept, each mail comes once.

A mail may come again only where its request had left and `sent` was not yet written: then it is one that was in hand,
and the attempt before is written down. `LEADS_CHAOS=long` takes each step by itself, at its 1st, 7th and 40th pass.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from signal import SIGKILL, SIGTERM, Signals

import pytest

from tests.chaos.checker import Verdict
from tests.chaos.crashes import PAUSE_SECONDS, Crashes
from tests.chaos.rig import IS_LONG, Rig, on_sizes
from tests.harness import kept
from tests.harness.crash_points import CrashPoint
from tests.harness.crash_steps import (
    BUCKET,
    EMBEDDED,
    FOLDER,
    INTAKE,
    MAILBOX,
    RABBITMQ,
    RELAY,
    SENDGRID,
    SENDING,
    STEPS,
    STORAGE,
)
from tests.harness.sizes import AT_SCALE, ON_MARIADB, PAST_ONE_MACHINE
from tests.harness.sizes import EMBEDDED as EMBEDDED_SIZE

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(0 if IS_LONG else 600),
    pytest.mark.long,
]

PASSES = (1, 7, 40) if IS_LONG else (3,)
EXIT_SECONDS = 10.0
MAILS_OF_AN_EVENT = 2

PASSED_BY_EVERY_LEAD = {"storage": STORAGE, "api": INTAKE | RELAY, "notifier": SENDING}
HAS = {
    EMBEDDED_SIZE: {EMBEDDED, MAILBOX, FOLDER},
    AT_SCALE: {RABBITMQ, SENDGRID, FOLDER},
    PAST_ONE_MACHINE: {RABBITMQ, SENDGRID, BUCKET},
    ON_MARIADB: {RABBITMQ, SENDGRID, FOLDER},
}
KEPT = {EMBEDDED_SIZE: "named", AT_SCALE: "named", PAST_ONE_MACHINE: "object put"}
"""The storage's step at which the resume is there and nobody was told."""


@dataclass(frozen=True)
class Case:
    """A signal to a room at steps, one after the other."""

    name: str
    room: str
    steps: Sequence[str]
    signal: Signals

    def __str__(self) -> str:
        return self.name

    def points(self, size: str) -> list[CrashPoint]:
        """At each of its steps that this size has, at each pass."""
        here = [step for step in self.steps if STEPS[self.room][step].only_with in {None, *HAS[size]}]
        return [CrashPoint(self.room, step, passes, self.signal) for step in here for passes in PASSES]


def cases(number: Signals) -> Iterator[Case]:
    """Each step by itself in the long form; in the short one those of a room together, mails under way apart."""
    for room, steps in PASSED_BY_EVERY_LEAD.items():
        parts: dict[str, list[str]] = {}
        for name, step in steps.items():
            part = " while a mail is under way" if step.may_repeat or step.must_repeat else ""
            parts.setdefault(f": {name}" if IS_LONG else part, []).append(name)
        for part, names in parts.items():
            yield Case(f"{number.name} of the {room}{part}", room, names, number)


def by_size(number: Signals) -> dict[str, list[Case]]:
    """The cases of which each size has a step.

    In the short form the third differs by its storage alone; MariaDB has a part in what the two others do.
    """
    return {
        size: [case for case in cases(number) if case.points(size) and (IS_LONG or _is_of_its_own(size, case))]
        for size in HAS
    }


def _is_of_its_own(size: str, case: Case) -> bool:
    return {PAST_ONE_MACHINE: case.room == "storage", ON_MARIADB: case.room != "storage"}.get(size, True)


@dataclass(frozen=True)
class Stop:
    """How a SIGTERM ended, and how many leads of its storm were kept without their answers."""

    exit_seconds: float
    cut_short: int


@pytest.fixture(scope="module")
def stops(rig: Rig) -> Iterator[list[Stop]]:
    """All stops of this size, told as one figure."""
    found: list[Stop] = []
    yield found
    if found:
        slowest, cut_short = max(stop.exit_seconds for stop in found), max(stop.cut_short for stop in found)
        measured = f"{len(found)} stops, at most {slowest:.1f} s, {cut_short} cut short"
        rig.figure("SIGTERM at each step: exit, accepted work cut short", f"<= {EXIT_SECONDS:g} s, 0", measured)


async def test_rooms_killed_at_once_each_at_a_step_of_its_own_lose_nothing(rig: Rig):
    points = [CrashPoint("storage", KEPT[rig.size], 5), CrashPoint("api", "confirmed", 2)]
    crashes = Crashes(rig, points)
    await rig.run("kill -9 of rooms at a few steps", crashes.nemesis, leads=None, pause_seconds=PAUSE_SECONDS)


@on_sizes("case", by_size(SIGKILL))
async def test_kill_9_at_a_step_loses_nothing_and_repeats_no_mail_but_one_under_way(rig: Rig, case: Case):
    points = case.points(rig.size)
    crashes = Crashes(rig, points)
    at = [STEPS[point.room][point.step] for point in points if rig.house.sendgrid is not None]
    under_way = sum(step.may_repeat or step.must_repeat for step in at)
    await rig.run(
        case.name, crashes.nemesis, leads=None, pause_seconds=PAUSE_SECONDS, repeated=MAILS_OF_AN_EVENT * under_way
    )
    came_again = rig.line.found.get(Verdict.REPEATED, 0)
    assert came_again or not any(step.must_repeat for step in at), "it did not die where it should"
    assert kept.unfinished_mails(rig.deployment) == set()


@on_sizes("case", by_size(SIGTERM))
async def test_a_room_told_to_stop_at_a_step_finishes_what_it_began(rig: Rig, stops: list[Stop], case: Case):
    crashes = Crashes(rig, case.points(rig.size))
    storm = await rig.run(case.name, crashes.nemesis, leads=None, pause_seconds=PAUSE_SECONDS)
    cut_short = sum(attempt.is_replay for attempt in storm.ledger) + rig.line.recovered
    stops += [Stop(seconds, cut_short) for seconds in crashes.exit_seconds]
    assert cut_short == 0, "a lead was kept, and its answer did not come"
    assert max(crashes.exit_seconds) <= EXIT_SECONDS
