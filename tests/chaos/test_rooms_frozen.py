"""SIGSTOP of a room under load, as when a machine is suspended: it goes on, and nothing is lost, doubled or stuck."""

import asyncio
from signal import SIGCONT, SIGSTOP

import pytest

from services.notifier.transport import Timeouts
from tests.chaos.rig import IN_HAND, IS_LONG, Rig
from tests.harness.deployment import ROOMS

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(0 if IS_LONG else 600),
    pytest.mark.long,
]

FROZEN_SECONDS = (5.0, 30.0) if IS_LONG else (2.0,)
"""Shorter and longer than the leases of a message (5 s) and of an e-mail (10 s), and than RabbitMQ waits for a sign."""

LEADS = 400 if IS_LONG else 100
FREEZES = 3 if IS_LONG else 1


@pytest.mark.parametrize("seconds", FROZEN_SECONDS)
@pytest.mark.parametrize("room", ROOMS)
async def test_a_room_that_stood_still_goes_on_as_if_nothing_had_been(rig: Rig, room: str, seconds: float):
    process = rig.deployment.processes[room]

    async def freeze() -> None:
        process.send_signal(SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            process.send_signal(SIGCONT)
        await rig.deployment.ready(room)

    # An answer that waited for longer than the notifier does is given up: its mail is `uncertain` and sent again.
    is_too_late = room == "notifier" and seconds > Timeouts().read_seconds
    nemesis = rig.at_random(freeze, times=FREEZES, leads=LEADS)
    allowed = IN_HAND * FREEZES if is_too_late and rig.house.sendgrid else 0
    await rig.run(f"SIGSTOP of the {room} for {seconds:g} s", nemesis, leads=LEADS, repeated=allowed)
    assert process.poll() is None
