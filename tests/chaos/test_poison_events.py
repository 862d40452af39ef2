"""Poison between good events: the good are all sent, the poison is set aside, each with a reason one can read.

`LEADS_CHAOS=long`: 100 in 10,000, on either bus, and a notifier that is killed 15 times with good ones in hand.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from services.notifier.delivery import REPEATED
from shared.bus import DeadLetter, EventBus, bus_for
from shared.bus.protocol import Message
from shared.events import Event, LeadCreated
from shared.ids import new_id
from shared.topology import NOTIFIER_QUEUE, Queue, Topology
from shared.worker import MAX_EVENT_BYTES
from tests.chaos.notifier import RETRY_DELAYS_SECONDS, events, message_of, notifying, until
from tests.chaos.rig import IN_HAND, IS_LONG, REST_SECONDS, SETTINGS
from tests.chaos.verdicts import Figure
from tests.harness.deployment import Deployment
from tests.harness.events import event
from tests.harness.kept import rows
from tests.harness.sendgrid import SendGridStandIn
from tests.harness.sizes import AT_SCALE, EMBEDDED, mail_through

GOOD, BAD = (9_900, 100) if IS_LONG else (560, 11)
KILLS = 15 if IS_LONG else 2
CRASHES = 15 if IS_LONG else 4
SECONDS = 900.0
OTHER_TYPE = "lead.withdrawn"
QUEUE = Queue(NOTIFIER_QUEUE, (LeadCreated.TYPE, OTHER_TYPE), RETRY_DELAYS_SECONDS)
"""As if somebody had bound it to another type as well."""


def _changed(**changes: object) -> Message:
    return _with_body(json.dumps({**json.loads(event().encode()), **changes}).encode())


def _with_body(body: bytes) -> Message:
    return Message(new_id(), LeadCreated.TYPE, body)


def _without_address() -> Message:
    data = dict(event().data)
    del data["email"]
    return _changed(data=data)


POISON: Sequence[tuple[Callable[[], Message], str]] = (
    (lambda: _with_body(b"\x00\xff this is no JSON"), "cannot be read: body"),
    (lambda: _changed(type="lead.vanished"), "sent as 'lead.created', and its type is not known here"),
    (_without_address, "cannot be read: email"),
    (lambda: message_of(event(), routing_key=OTHER_TYPE), f"sent as '{OTHER_TYPE}', and its body is of another type"),
    (lambda: _changed(dataschema="urn:leads:schema:lead.created:99"), "its version (dataschema) is not known here"),
    (lambda: _with_body(event().encode() + b" " * MAX_EVENT_BYTES), "too large for an event"),
    (lambda: _changed(data="a string"), "cannot be read: data"),
    (lambda: _changed(specversion="9"), "cannot be read: specversion"),
    (lambda: _with_body(b""), "cannot be read: body"),
    (lambda: _with_body(b"[" * 200_000), "cannot be read: body"),
    (lambda: _with_body(event().encode().replace(b'"Ann"', rb'"\ud800"')), "cannot be read: body"),
)

SIZES = pytest.mark.parametrize(
    "size", [EMBEDDED, pytest.param(AT_SCALE, marks=[pytest.mark.rabbitmq, pytest.mark.long])]
)


@pytest.fixture
def broker_url(size, request, tmp_path) -> str:
    if size == EMBEDDED:
        return f"sqlite:///{tmp_path / 'queue.db'}"
    return request.getfixturevalue("rabbit_url")


def outsider(broker_url: str) -> EventBus:
    """A bus by which anything gets into the notifier's queue."""
    return bus_for(broker_url, Topology(queues=(QUEUE,)), client_name="outsider")


def mixed(good: Sequence[Event], bad: int) -> tuple[list[Message], dict[str, str]]:
    """The good events with poison spread evenly between them, and the reason that each poison should die of."""
    messages, reasons = [message_of(one) for one in good], {}
    for number in range(bad):
        make, reason = POISON[number % len(POISON)]
        poison = make()
        reasons[poison.id] = reason
        messages.insert((number + 1) * len(messages) // (bad + 1), poison)
    return messages, reasons


def check_dead(dead: Sequence[DeadLetter], reasons: dict[str, str], *, doubled: int = 0) -> None:
    """All that should be there, and nothing else. Some may be there twice: a kill between copy and ack leaves both."""
    assert {letter.message.id for letter in dead} == set(reasons)
    assert len(dead) - len(reasons) <= doubled
    for letter in dead:
        assert reasons[letter.message.id] in letter.reason


@SIZES
async def test_poison_between_good_events_is_set_aside_with_a_reason(tmp_path, size, broker_url):
    good = events(56)
    messages, reasons = mixed(good, len(POISON))
    async with (
        SendGridStandIn() as sendgrid,
        outsider(broker_url) as bus,
        notifying(tmp_path, sendgrid, broker_url=broker_url) as notifier,
    ):
        await bus.publish(messages)
        await notifier.settled(2 * len(good), within_seconds=60, dead=len(POISON))
        check_dead(await bus.peek(QUEUE, 2 * len(POISON)), reasons)
        planned = {email.event_id for email in await notifier.emails()}
    assert planned == {one.id for one in good}
    assert set(sendgrid.accepted_by_email_id.values()) == {1}


@pytest.mark.long
@pytest.mark.timeout(0 if IS_LONG else 180)
@SIZES
async def test_no_good_event_dies_though_the_notifier_is_killed_with_it_in_hand(tmp_path, size, broker_url, verdicts):
    good = events(GOOD)
    messages, reasons = mixed(good, BAD)
    async with SendGridStandIn() as sendgrid, outsider(broker_url) as bus:
        house = Deployment(tmp_path, {**SETTINGS, **mail_through(sendgrid), "LEADS_BROKER_URL": broker_url})
        house.data.mkdir()
        try:
            await bus.publish(messages)
            for number in range(KILLS):
                await house.restart("notifier")
                sent = (number + 1) * 2 * GOOD // (KILLS + 2)
                await until(lambda sent=sent: len(sendgrid.accepted_by_email_id) >= sent, SECONDS)
                house.kill("notifier")
            await house.restart("notifier")
            healed_at = time.monotonic()
            await until(lambda: len(sendgrid.accepted_by_email_id) == 2 * GOOD, SECONDS)
            await at_rest(bus, house, dead=BAD)
            seconds = time.monotonic() - healed_at
            dead = await bus.peek(QUEUE, BAD + GOOD)
        finally:
            house.end()
    check_dead(dead, reasons, doubled=KILLS)
    repeated = repeated_and_written_down(house, sendgrid)
    tell = f"{BAD} poison in {GOOD + BAD}, {KILLS} kills: good events dead"
    good_and_dead = {letter.message.id for letter in dead} - set(reasons)
    verdicts.figures.append(Figure(size, tell, "0", str(len(good_and_dead))))
    print(f"{tell} 0, {repeated} e-mails came again, each written down; the rest was done in {seconds:.1f} s")
    assert repeated <= KILLS * IN_HAND


@pytest.mark.long
@pytest.mark.timeout(0 if IS_LONG else 180)
@SIZES
async def test_a_notifier_that_crashes_on_every_message_kills_no_event(tmp_path, size, broker_url, verdicts):
    good = events(60)
    async with SendGridStandIn() as sendgrid, outsider(broker_url) as bus:
        house = Deployment(tmp_path, {**SETTINGS, **mail_through(sendgrid), "LEADS_BROKER_URL": broker_url})
        house.data.mkdir()
        crashed = asyncio.Event()

        def crash(_: object) -> None:
            if not crashed.is_set():
                house.kill("notifier")
                crashed.set()

        try:
            await bus.publish([message_of(one) for one in good])
            sendgrid.look = crash
            for _ in range(CRASHES):
                crashed.clear()
                house.launch("notifier")
                await asyncio.wait_for(crashed.wait(), 60)
            sendgrid.look = None
            await house.restart("notifier")
            healed_at = time.monotonic()
            await until(lambda: len(sendgrid.accepted_by_email_id) == 2 * len(good), SECONDS)
            await at_rest(bus, house, dead=0)
            seconds = time.monotonic() - healed_at
            dead = (await bus.stats(QUEUE)).dead
        finally:
            house.end()
    repeated = repeated_and_written_down(house, sendgrid)
    tell = f"a notifier that crashed on every message, {CRASHES} times: dead letters"
    verdicts.figures.append(Figure(size, tell, "0", str(dead)))
    print(f"{tell} {dead}, {repeated} e-mails came again, each written down; healed in {seconds:.1f} s")
    assert seconds < REST_SECONDS


async def at_rest(bus: EventBus, house: Deployment, *, dead: int) -> None:
    """Nothing waits, each e-mail is sent, and so many dead letters are there at least. Fails after a minute.

    RabbitMQ does not tell a client what is in hand: the rows do.
    """
    deadline = time.monotonic() + REST_SECONDS
    while True:
        stats, states = await bus.stats(QUEUE), states_of(house)
        waiting = stats.ready + (stats.unacked or 0) + sum(stats.retrying.values())
        if waiting == 0 and stats.dead >= dead and set(states) == {"sent"}:
            return
        assert time.monotonic() < deadline, f"{stats}, {states}, and {dead} dead letters are to come"
        await asyncio.sleep(0.2)


def states_of(house: Deployment) -> Counter[str]:
    """How many e-mails are in each state."""
    return Counter(state for (state,) in rows(house.notifier_db, "SELECT lower(state) FROM emails"))


def repeated_and_written_down(house: Deployment, sendgrid: SendGridStandIn) -> int:
    """How many e-mails came more than once. Fails if one did whose row does not say that this may be."""
    reasons = dict(rows(house.notifier_db, "SELECT id, reason FROM emails"))
    repeated = [email_id for email_id, count in sendgrid.accepted_by_email_id.items() if count > 1]
    assert {reasons[email_id] for email_id in repeated} <= {REPEATED}
    return len(repeated)
