"""An e-mail comes twice only where a request was sent and its answer never read, and never before that is written down.

Outside of this window: two relays on one outbox, the whole outbox sent again three times over, two notifiers at once.
"""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from typing import Self

import pytest

from services.notifier.delivery import REPEATED
from tests.chaos.rig import IN_HAND, IS_LONG, Rig
from tests.chaos.storm import Storm
from tests.harness.deployment import ROOT, Deployment, free_ports
from tests.harness.kept import change, rows

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long, pytest.mark.timeout(0 if IS_LONG else 120)]

LEADS = 5_000 if IS_LONG else 100
KILLS = 10 if IS_LONG else 1
DROPS = 30
ROUNDS = 10 if IS_LONG else 1
REPLAYS = 3


@pytest.fixture(scope="module")
def rig(rig_with_sendgrid: Rig) -> Rig:
    return rig_with_sendgrid


async def test_two_relays_and_two_notifiers_at_once_send_each_email_once(rig: Rig):
    twins = [Twin(rig.deployment, room) for room in ("api", "notifier")]
    for twin in twins:
        await twin.start()

    async def nemesis(_storm: Storm) -> int:
        return len(twins)

    await rig.run("two relays and two notifiers", nemesis, leads=LEADS)
    before = dict(rig.house.sendgrid.accepted_by_email_id)
    for _ in range(REPLAYS):
        replay_outbox(rig.deployment)
        await rig.judge("the whole outbox sent again", [], faults=1)
    extra = sum(rig.house.sendgrid.accepted_by_email_id.values()) - sum(before.values())
    rig.figure(f"extra e-mails after the outbox was sent {REPLAYS} times over", "0", f"{extra} of {len(before)}")
    assert set(rig.house.sendgrid.accepted_by_email_id.values()) == {1}
    for twin in twins:
        twin.kill()


async def test_a_notifier_killed_beside_another_repeats_only_what_it_had_sent_and_not_heard_of(rig: Rig):
    twin = Twin(rig.deployment, "notifier")
    await twin.start()

    async def kill() -> None:
        twin.kill()
        await twin.start()

    with Witness(rig) as witness:
        nemesis = rig.at_random(kill, times=KILLS, leads=LEADS)
        await rig.run("kill -9 of one of two notifiers", nemesis, leads=LEADS, repeated=IN_HAND * KILLS)
    twin.kill()
    witness.tell(f"e-mails sent again after {KILLS} kills of one of two notifiers", IN_HAND * KILLS)


async def test_an_answer_that_was_never_read_is_written_down_before_the_email_is_sent_again(rig: Rig):
    async def drop_answers() -> None:
        rig.house.sendgrid.behave("drop_after_accept", times=DROPS)
        await asyncio.sleep(1)
        rig.house.sendgrid.behave("accept")

    with Witness(rig) as witness:
        nemesis = rig.at_random(drop_answers, times=ROUNDS, leads=LEADS)
        await rig.run(
            "accepted and the connection dropped", nemesis, leads=LEADS, repeated=IN_HAND * KILLS + DROPS * ROUNDS
        )
    witness.tell("e-mails sent again after their answers were never read", DROPS * ROUNDS)


class Twin:
    """A second process of a room, on a port of its own and on the same databases."""

    def __init__(self, deployment: Deployment, room: str) -> None:
        self._deployment = deployment
        self._room = room
        self._name = f"second {room}"

    async def start(self) -> None:
        (port,) = free_ports(1)
        deployment = self._deployment
        deployment.ports[self._name] = port
        with deployment.log_file(self._name).open("ab") as log:
            deployment.processes[self._name] = subprocess.Popen(
                [sys.executable, "-m", f"services.{self._room}"],
                cwd=ROOT,
                env={**deployment.environment, f"LEADS_{self._room.upper()}_PORT": str(port)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        await deployment.ready(self._name)

    def kill(self) -> None:
        self._deployment.kill(self._name)


class Witness:
    """Looks into the notifier's rows whenever a request comes for an e-mail that SendGrid has taken before."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._sendgrid = rig.house.sendgrid
        self.seen: list[tuple[str, int, str | None]] = []

    def __enter__(self) -> Self:
        self._sendgrid.look = self._look
        return self

    def __exit__(self, *_: object) -> None:
        self._sendgrid.look = None

    def _look(self, custom_args: Mapping[str, str]) -> None:
        email_id = custom_args["email_id"]
        if self._sendgrid.accepted_by_email_id[email_id]:
            database = self._rig.deployment.notifier_db
            self.seen += rows(database, "SELECT lower(state), attempts, reason FROM emails WHERE id = ?", email_id)

    def tell(self, promise: str, at_most: int) -> None:
        """Fails when one came again that was not written down, or more than can have been cut short."""
        self._rig.figure(f"{promise}, each written down first", f"<= {at_most}", str(len(self.seen)))
        assert {(state, reason) for state, _, reason in self.seen} <= {("sending", REPEATED)}
        assert all(attempts > 1 for _, attempts, _ in self.seen)
        assert len(self.seen) <= at_most


def replay_outbox(deployment: Deployment) -> None:
    """As somebody may who is not sure that the bus has everything."""
    change(deployment.leads_db, "UPDATE outbox SET published_at = NULL")
