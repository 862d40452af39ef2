"""Clocks that jump under load, of all rooms or of one alone: nothing is lost, doubled, stuck, or refused for it.

A file keeps the time that the kernel gave it, so that to a room whose clock is ahead each resume looks old at once.
"""

import pytest
import pytest_asyncio

from tests.chaos.rig import IS_LONG, SETTINGS, Rig
from tests.chaos.storm import Storm
from tests.harness.client import Client
from tests.harness.clock import MISSING, FakeClock, find_faketime
from tests.harness.deployment import ADMIN, PASSWORD, ROOMS, Deployment
from tests.harness.missing import cannot_run
from tests.harness.sizes import AT_SCALE, EMBEDDED, at_scale, embedded

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOUR, DAY = 3600, 86400
LEADS = 2_000 if IS_LONG else 60


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[EMBEDDED, pytest.param(AT_SCALE, marks=[pytest.mark.rabbitmq, pytest.mark.long])],
)
async def rig(request, tmp_path_factory, verdicts):
    """Every room with a clock that can be made to jump, all of them at once."""
    library = find_faketime()
    if library is None:
        cannot_run(MISSING)
    folder = tmp_path_factory.mktemp(f"clocks-{request.param}")
    settings = {**SETTINGS, **FakeClock(folder / "clock").environment(library)}
    if request.param == EMBEDDED:
        async with embedded(folder, settings) as house:
            yield Rig(house, EMBEDDED, verdicts)
    else:
        async with at_scale(folder, request.getfixturevalue("rabbit_node"), settings) as house:
            yield Rig(house, AT_SCALE, verdicts)


async def alone(deployment: Deployment, room: str) -> FakeClock:
    """From now on the room has a clock of its own."""
    clock = FakeClock(deployment.folder / f"clock-{room}")
    everyones = dict(deployment.environment)
    deployment.environment["FAKETIME_TIMESTAMP_FILE"] = str(deployment.folder / f"clock-{room}")
    try:
        await deployment.stop(room)
        await deployment.restart(room)
    finally:
        deployment.environment.update(everyones)
    return clock


async def jump_under_load(rig: Rig, clock: FakeClock, name: str, *jumps_seconds: int) -> Storm:
    """Each jump in its turn, and then the right time again, which is a jump, too."""
    moments = [*jumps_seconds, 0]

    async def nemesis(storm: Storm) -> int:
        for number, seconds in enumerate(moments, start=1):
            await storm.reaches(number * LEADS // (len(moments) + 1))
            clock.jump(seconds)
        return len(moments)

    storm = await rig.run(name, nemesis, leads=LEADS)
    refused = sum(attempt.status != 201 for attempt in storm.ledger)
    rig.figure(f"{name}: valid leads refused", "0", f"{refused} of {LEADS}")
    assert refused == 0
    return storm


async def test_a_clock_that_jumps_for_all_rooms_costs_nothing(rig: Rig):
    clock = FakeClock(rig.deployment.folder / "clock")
    await jump_under_load(rig, clock, "clock +1 h, -1 day, right again", HOUR, -DAY)


@pytest.mark.long
async def test_staff_stay_signed_in_or_are_told_to_sign_in_again(rig: Rig):
    clock = FakeClock(rig.deployment.folder / "clock")
    try:
        async with Client(rig.deployment.api_url) as client:
            for seconds in (-HOUR, 2 * HOUR, -DAY):
                await client.login(ADMIN, PASSWORD)
                clock.jump(seconds)
                assert (await client.call("GET", "/leads")).status == 401
                await client.login(ADMIN, PASSWORD)
                assert (await client.call("GET", "/leads")).status == 200
                clock.jump(seconds + 30)
                assert (await client.call("GET", "/leads")).status == 200, "half a minute is no jump"
                clock.jump(seconds - 30)
                assert (await client.call("GET", "/leads")).status == 200
    finally:
        clock.jump(0)


@pytest.mark.long
@pytest.mark.timeout(0 if IS_LONG else 120)
@pytest.mark.parametrize("room", ROOMS)
async def test_a_room_whose_clock_jumps_alone_costs_nothing(rig: Rig, room: str):
    clock = await alone(rig.deployment, room)
    try:
        await jump_under_load(rig, clock, f"clock of the {room} +1 h, -1 h, -1 day", HOUR, -HOUR, -DAY)
    finally:
        clock.jump(0)
