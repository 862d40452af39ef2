"""The rig: a deployment under load, a fault, its healing, rest, and the checker's verdict on all that is there then.

A scenario is one call of `Rig.run` with a nemesis: a coroutine that does harm while leads come in, and mends what it
did before it returns. The ledger goes on over all scenarios on one deployment, and everything is checked each time:
what an earlier fault broke does not escape because nobody looks back.
"""

import asyncio
import os
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

import pytest

from services.notifier.settings import NotifierSettings
from tests.chaos.checker import Attempt, Facts, Finding, Verdict, check, table
from tests.chaos.collect import facts_at_rest
from tests.chaos.storm import Storm
from tests.chaos.verdicts import Figure, Line, Verdicts, line_of
from tests.harness.deployment import Deployment
from tests.harness.sizes import AT_SCALE, EMBEDDED, ON_MARIADB, PAST_ONE_MACHINE, House

IS_LONG = os.environ.get("LEADS_CHAOS") == "long"
"""Whether `make chaos` runs, or the short form that is part of `make test` and `make test-long`."""

REST_SECONDS = 60.0
"""After so long without a fault nothing may be stuck."""

RETRY_DELAYS_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
SETTINGS = {
    "LEADS_RETRY_DELAYS_SECONDS": str(list(RETRY_DELAYS_SECONDS)),
    "LEADS_ORPHAN_GRACE_SECONDS": "3",
    "LEADS_SWEEP_INTERVAL_SECONDS": "2",
    "LEADS_LOG_LEVEL": "WARNING",
}
"""What makes a deployment come to rest within seconds. Everything else is as it comes."""

SIZES: Mapping[str, Sequence[pytest.MarkDecorator]] = {
    EMBEDDED: (),
    AT_SCALE: (pytest.mark.rabbitmq, pytest.mark.long),
    PAST_ONE_MACHINE: (pytest.mark.rabbitmq, pytest.mark.postgresql, pytest.mark.long),
}
"""Which a scenario is tried on unless it says otherwise, and how its tests are marked."""

OTHER_SIZES: Mapping[str, Sequence[pytest.MarkDecorator]] = {
    ON_MARIADB: (pytest.mark.rabbitmq, pytest.mark.mariadb, pytest.mark.long),
}
"""Which some scenarios are tried on as well: those that the rows have a part in."""

DOWN_SECONDS = (0.0, 0.4)
IN_HAND = 2 * NotifierSettings.model_fields["concurrency"].default
"""Most e-mails that one notifier can be sending when it is killed: two for each event that it has in hand."""


def on_sizes(argument: str, cases: Mapping[str, Iterable[object]]) -> pytest.MarkDecorator:
    """Each case on the size that it stands under, as `argument` beside the `rig`; `str` of it names its test."""
    found = [
        pytest.param(size, case, marks={**SIZES, **OTHER_SIZES}[size], id=f"{size}-{case}")
        for size, of in cases.items()
        for case in of
    ]
    return pytest.mark.parametrize(("rig", argument), found, indirect=["rig"], scope="module")


Nemesis = Callable[[Storm], Awaitable[int]]
"""Does harm while the storm goes on, mends it, and returns how many times it did. `storm.reaches` tells it when."""


class Rig:
    """One deployment, what clients did to it so far, and where verdicts are told."""

    def __init__(self, house: House, size: str, verdicts: Verdicts) -> None:
        self.house = house
        self.size = size
        self.seed = int(os.environ.get("LEADS_CHAOS_SEED", secrets.randbelow(10**6)))
        """`LEADS_CHAOS_SEED` repeats the moments of a run, as far as a machine can."""
        self.dice = random.Random(self.seed)
        self._verdicts = verdicts
        self._ledger: list[Attempt] = []
        self._told: frozenset[Finding] = frozenset()

    @property
    def deployment(self) -> Deployment:
        return self.house.deployment

    async def run(
        self, scenario: str, nemesis: Nemesis, *, leads: int | None, repeated: int = 0, pause_seconds: float = 0.0
    ) -> Storm:
        """Post `leads` leads (None: until it is done) while `nemesis` does harm; fail unless the promise was kept.

        At most `repeated` e-mails may have come again, each written down before: as many as a fault can cut short.
        Each client rests for `pause_seconds` between two leads.
        """
        storm = Storm(self.deployment.api_url, scenario, dice=self.dice, pause_seconds=pause_seconds)

        async def harm() -> int:
            try:
                return await nemesis(storm)
            finally:
                if leads is None:
                    storm.end()

        faults = await self._both(storm, leads, harm())
        await self.judge(scenario, storm.ledger, faults=faults, repeated=repeated)
        assert leads is None or storm.answered + storm.gave_up == leads
        return storm

    async def _both(self, storm: Storm, leads: int | None, harm: Coroutine[Any, Any, int]) -> int:
        """Run both to their ends, or neither; how many times there was harm."""
        tasks = asyncio.create_task(storm.run(leads)), asyncio.create_task(harm)
        try:
            _, faults = await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._ledger += storm.ledger  # what a failed scenario posted is no phantom to the next one
            raise
        return faults

    async def judge(self, scenario: str, ledger: Sequence[Attempt], *, faults: int, repeated: int = 0) -> Facts:
        """Wait for rest, check everything, tell what is new; fails unless the promise was kept."""
        self._ledger += ledger
        began_at = time.monotonic()
        facts = await facts_at_rest(self.house, self._ledger, RETRY_DELAYS_SECONDS, patience_seconds=REST_SECONDS)
        seconds = time.monotonic() - began_at
        findings = [finding for finding in check(facts) if finding not in self._told]
        self._told |= frozenset(findings)
        line = line_of(self.size, scenario, ledger, facts, findings, faults=faults, seconds=seconds)
        self._verdicts.lines.append(line)
        print(f"\n{self.size}: {scenario} (LEADS_CHAOS_SEED={self.seed})\n{table(facts, findings)}")
        assert _not_allowed(findings) == []
        assert line.found.get(Verdict.REPEATED, 0) <= repeated
        return facts

    @property
    def line(self) -> Line:
        """The verdict on the latest scenario."""
        return self._verdicts.lines[-1]

    def figure(self, promise: str, target: str, measured: str) -> None:
        """Tell a figure of the promise at the end of the run."""
        self._verdicts.figures.append(Figure(self.size, promise, target, measured))

    def time(self, promise: str, seconds: Sequence[float], *, target_seconds: float, told: str = "") -> None:
        """Tell the longest of these times. Fails at twice its target: so far no busy machine makes it miss."""
        measured = f"{max(seconds):.2f} s at most, of {len(seconds)}{told}"
        self.figure(promise, f"<= {target_seconds:g} s", measured)
        assert max(seconds) <= 2 * target_seconds, f"{promise}: {measured}"

    async def kill(self, room: str) -> None:
        """kill -9, and start it again after a moment."""
        self.deployment.kill(room)
        await asyncio.sleep(self.dice.uniform(*DOWN_SECONDS))
        await self.deployment.restart(room)

    def at_random(self, harm: Callable[[], Awaitable[object]], *, times: int, leads: int) -> Nemesis:
        """The nemesis that does `harm` so many times, each at a random moment while `leads` leads come in."""

        async def nemesis(storm: Storm) -> int:
            for moment in sorted(self.dice.uniform(0.1, 0.9) for _ in range(times)):
                await storm.reaches(int(moment * leads))
                await asyncio.sleep(self.dice.uniform(0, 0.05))
                await harm()
            return times

        return nemesis


def _not_allowed(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.verdict is not Verdict.REPEATED]
