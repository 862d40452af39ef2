"""Two apis and two notifiers behind one nginx: any one of them may be killed under load, and the others carry on.

`LEADS_CHAOS=long` kills each a hundred times.
"""

import pytest
import pytest_asyncio

from tests.chaos.rig import IN_HAND, IS_LONG, SETTINGS, Rig
from tests.harness import replicas
from tests.harness.missing import cannot_run
from tests.harness.nginx import MISSING, find_nginx
from tests.harness.replicas import Replicas, replicated
from tests.harness.sizes import AT_SCALE, EMBEDDED, at_scale, embedded

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long, pytest.mark.timeout(0)]

ROUNDS = 100 if IS_LONG else 2
LEADS_A_KILL = 40


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[EMBEDDED, pytest.param(AT_SCALE, marks=pytest.mark.rabbitmq)]
)
async def house(request, tmp_path_factory):
    if find_nginx() is None:
        cannot_run(MISSING)
    folder, settings = tmp_path_factory.mktemp(request.param), {**SETTINGS, **replicas.SETTINGS}
    size = (
        embedded(folder, settings)
        if request.param == EMBEDDED
        else at_scale(folder, request.getfixturevalue("rabbit_node"), settings)
    )
    async with size as house, replicated(house, folder / "front") as both:
        yield request.param, both


async def test_any_replica_may_be_killed_under_load(house: tuple[str, Replicas], verdicts):
    size, both = house
    rig = Rig(both.house, f"{size}, 2 apis, 2 notifiers", verdicts)
    victims = [*both.apis, *both.notifiers] * ROUNDS
    rig.dice.shuffle(victims)
    left = iter(victims)

    async def kill_the_next() -> None:
        await rig.kill(next(left))

    leads = LEADS_A_KILL * len(victims)
    nemesis = rig.at_random(kill_the_next, times=len(victims), leads=leads)
    await rig.run("kill -9 of each replica", nemesis, leads=leads, repeated=IN_HAND * len(victims))
