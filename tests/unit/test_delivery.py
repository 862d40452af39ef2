"""Delivery: two e-mails for a lead, each sent once as far as anybody can know, each in a state that tells the truth."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from services.notifier.circuit import Circuit
from services.notifier.compose import composer_of
from services.notifier.delivery import REPEATED, Composer, Delivery
from services.notifier.email import Accepted, MailRejected, MailThrottled, MailUnavailable, MailUncertain
from services.notifier.settings import MIGRATIONS, NotifierSettings
from services.notifier.tables import Email, EmailKind, EmailState
from shared.database import Database
from shared.problems import Problem, ProblemType
from shared.topology import REDELIVERY_LIMIT
from shared.worker import GiveUp, Hold, Retry
from tests.harness.events import event, lead_created


class Transport:
    """Takes a moment for each e-mail, and fails as it is told to, by kind."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.failures: dict[str, list[Exception]] = {}
        self.seconds = 0.0
        self.sending = asyncio.Event()

    async def send(self, message) -> Accepted:
        kind = message.categories[0]
        self.sending.set()
        await asyncio.sleep(self.seconds)
        if self.failures.get(kind):
            raise self.failures[kind].pop(0)
        self.sent.append(kind)
        return Accepted(f"taken-{len(self.sent)}")

    async def close(self) -> None:
        pass


LEASE_SECONDS = 0.3


class House:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.transport = Transport()
        self.circuit = Circuit()
        self.delivery = self.notifier()

    def notifier(self) -> Delivery:
        """As after a restart."""
        composer = Composer(composer_of(NotifierSettings(staff_email="staff@example.com")), prospect_mails_per_day=2)
        return Delivery(
            self.database, self.transport, self.circuit, composer, lease_seconds=LEASE_SECONDS, hold_seconds=0.5
        )

    async def deliver(self, created=None) -> None:
        created = created or event()
        await self.delivery.deliver(created, created.payload())

    async def emails(self) -> dict[str, tuple[EmailState, int]]:
        """State and attempts of the newest e-mail of each kind."""
        every = select(Email).order_by(col(Email.id))
        found = await self.database.read(lambda session: session.execute(every).scalars().all())
        return {email.kind: (email.state, email.attempts) for email in found}

    async def reasons(self) -> dict[str, str | None]:
        found = await self.database.read(lambda session: session.execute(select(Email)).scalars().all())
        return {email.kind: email.reason for email in found}

    async def found_in_sending(self, **values) -> None:
        change = update(Email).values(state=EmailState.SENDING, **values)
        await self.database.write(lambda session: session.execute(change))


@pytest.fixture
async def house(database_url):
    database = Database(database_url)
    await database.migrate(MIGRATIONS)
    yield House(database)
    await database.close()


async def test_a_lead_is_told_to_the_prospect_and_to_the_staff_once_however_often_its_event_comes(house):
    created = event()
    for _ in range(3):
        await house.deliver(created)
    assert sorted(house.transport.sent) == [EmailKind.PROSPECT, EmailKind.STAFF]
    assert await house.emails() == dict.fromkeys(EmailKind, (EmailState.SENT, 1))


async def test_two_copies_of_an_event_in_hand_at_once_are_one_delivery(house):
    """A broker that comes back hands out again what is in hand; a relay sends again what was not confirmed."""
    created = event()
    house.transport.seconds = 0.1
    first = asyncio.create_task(house.deliver(created))
    await house.transport.sending.wait()
    await house.deliver(created)
    await first
    assert sorted(house.transport.sent) == [EmailKind.PROSPECT, EmailKind.STAFF]


async def test_copies_that_wait_out_a_pause_together_are_one_delivery(house):
    created = event()
    house.circuit.failed(MailRejected("an answer"))
    for _ in range(5):
        house.circuit.failed(MailUnavailable("away"))
    copies = [asyncio.create_task(house.deliver(created)) for _ in range(3)]
    await asyncio.sleep(0.05)
    house.circuit._open_until = 0.0
    house.circuit._notify()
    await asyncio.gather(*copies)
    assert sorted(house.transport.sent) == [EmailKind.PROSPECT, EmailKind.STAFF]


async def test_the_state_is_written_before_the_request_leaves(house):
    seen = []

    async def look(message) -> Accepted:
        seen.append((await house.emails())[message.categories[0]])
        return Accepted(None)

    house.transport.send = look
    await house.deliver()
    assert seen == [(EmailState.SENDING, 1)] * 2


async def test_an_email_that_was_cut_short_is_uncertain_and_is_sent_again(house):
    created = event()
    house.transport.seconds = 60
    cut_short = asyncio.create_task(house.deliver(created))
    while await house.emails() != dict.fromkeys(EmailKind, (EmailState.SENDING, 1)):
        await asyncio.sleep(0.005)
    cut_short.cancel()
    with suppress(asyncio.CancelledError):
        await cut_short
    house.transport.seconds = 0
    house.delivery = house.notifier()
    with pytest.raises(Hold, match="another notifier"):
        await house.deliver(created)
    await asyncio.sleep(LEASE_SECONDS)
    await house.deliver(created)
    assert await house.emails() == dict.fromkeys(EmailKind, (EmailState.SENT, 2))


async def test_an_event_that_two_notifiers_got_is_sent_by_the_first_however_long_that_takes(house):
    """RabbitMQ hands it to the second when it lost sight of the first, which goes on sending."""
    created = event()
    house.transport.seconds = 3 * LEASE_SECONDS
    first = asyncio.create_task(house.deliver(created))
    await house.transport.sending.wait()
    house.delivery = house.notifier()
    holds = 0
    while not first.done():
        try:
            await house.deliver(created)
        except Hold:
            holds += 1
        await asyncio.sleep(LEASE_SECONDS / 4)
    await first
    await house.deliver(created)
    assert holds > 4
    assert sorted(house.transport.sent) == [EmailKind.PROSPECT, EmailKind.STAFF]
    assert await house.emails() == dict.fromkeys(EmailKind, (EmailState.SENT, 1))


async def test_an_answer_that_was_not_read_is_uncertain_until_the_next_attempt(house):
    created = event()
    house.transport.failures["staff"] = [MailUncertain("the answer was not read")]
    with pytest.raises(Retry, match="staff e-mail: the answer was not read"):
        await house.deliver(created)
    assert await house.emails() == {"prospect": (EmailState.SENT, 1), "staff": (EmailState.UNCERTAIN, 1)}
    await house.deliver(created)
    assert await house.emails() == {"prospect": (EmailState.SENT, 1), "staff": (EmailState.SENT, 2)}
    assert await house.reasons() == {"prospect": None, "staff": REPEATED}, "the doubt stays written down"


async def test_a_rejected_email_is_given_up_and_the_other_is_sent_all_the_same(house):
    created = event()
    house.transport.failures["prospect"] = [MailRejected("no such mailbox")]
    with pytest.raises(GiveUp, match="prospect e-mail: no such mailbox"):
        await house.deliver(created)
    assert await house.emails() == {"prospect": (EmailState.FAILED, 1), "staff": (EmailState.SENT, 1)}
    await house.deliver(created)
    assert house.transport.sent == ["staff", "prospect"], "a replay sends what had failed, and only that"


async def test_before_its_event_is_a_dead_letter_what_was_not_sent_failed_and_what_may_have_been_is_uncertain(house):
    created = event()
    house.transport.failures = {"prospect": [MailUnavailable("away")], "staff": [MailUncertain("no answer")]}
    with pytest.raises(Retry, match="staff e-mail: no answer; it may have been sent"):
        await house.deliver(created)
    await house.delivery.give_up(created, created.payload(), "away (after 6 attempts)")
    assert await house.emails() == {"prospect": (EmailState.FAILED, 1), "staff": (EmailState.UNCERTAIN, 1)}
    assert await house.reasons() == dict.fromkeys(EmailKind, "away (after 6 attempts)")
    await house.deliver(created)
    assert sorted(house.transport.sent) == [EmailKind.PROSPECT, EmailKind.STAFF], "a replay tries both again"
    await house.delivery.give_up(created, created.payload(), "a copy of it died")
    assert await house.emails() == dict.fromkeys(EmailKind, (EmailState.SENT, 2))


async def test_an_event_given_up_before_anybody_had_planned_its_emails_has_them_all_the_same(house):
    created = event()
    await house.delivery.give_up(created, created.payload(), "its consumer went away each time")
    assert await house.emails() == dict.fromkeys(EmailKind, (EmailState.FAILED, 0))


async def test_what_another_notifier_is_sending_is_not_given_up_behind_its_back(house):
    created = event()
    house.transport.seconds = 0.1
    sending = asyncio.create_task(house.deliver(created))
    await house.transport.sending.wait()
    with pytest.raises(Hold, match="another notifier"):
        await house.notifier().give_up(created, created.payload(), "died")
    await sending
    assert await house.emails() == dict.fromkeys(EmailKind, (EmailState.SENT, 1))


@pytest.mark.parametrize("later", [MailUnavailable("away"), MailThrottled("slowly", retry_after_seconds=60)])
async def test_what_may_have_been_sent_stays_uncertain_however_later_attempts_are_refused(house, later):
    created = event()
    house.transport.failures["staff"] = [MailUncertain("no answer"), later]
    for _ in range(2):
        with pytest.raises((Retry, Hold)):
            await house.deliver(created)
    assert (await house.emails())["staff"] == (EmailState.UNCERTAIN, 2)


async def test_a_defect_while_sending_is_uncertain_at_once(house):
    house.transport.failures["staff"] = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        await house.deliver()
    assert (await house.emails())["staff"] == (EmailState.UNCERTAIN, 1)


async def test_an_email_that_ends_its_notifier_each_time_is_given_up_in_the_end(house):
    created = event()
    await house.delivery._planned(created, created.payload())
    long_ago = datetime.now(UTC) - timedelta(minutes=1)
    await house.found_in_sending(attempts=REDELIVERY_LIMIT, cuts=REDELIVERY_LIMIT - 1, updated_at=long_ago)
    with pytest.raises(GiveUp, match=f"cut short while it was sent, {REDELIVERY_LIMIT} times in a row"):
        await house.deliver(created)
    assert await house.emails() == dict.fromkeys(EmailKind, (EmailState.UNCERTAIN, REDELIVERY_LIMIT))

    await house.delivery.give_up(created, created.payload(), "cut short again and again")
    await house.deliver(created)  # a replay: it gets its chances anew
    assert await house.emails() == dict.fromkeys(EmailKind, (EmailState.SENT, REDELIVERY_LIMIT + 1))


async def test_a_first_cut_after_an_outage_of_many_attempts_is_no_reason_to_give_up(house):
    created = event()
    await house.delivery._planned(created, created.payload())
    long_ago = datetime.now(UTC) - timedelta(minutes=1)
    await house.found_in_sending(attempts=REDELIVERY_LIMIT + 20, updated_at=long_ago)
    await house.deliver(created)
    assert await house.emails() == dict.fromkeys(EmailKind, (EmailState.SENT, REDELIVERY_LIMIT + 21))


async def test_what_was_sent_is_written_down_however_long_the_database_is_away_and_not_sent_again(house, monkeypatch):
    move, away = house.delivery._moves.add, [Problem(ProblemType.UNAVAILABLE, "locked") for _ in range(4)]

    async def moved(step):
        if step.state is EmailState.SENT and away:
            raise away.pop()
        return await move(step)

    monkeypatch.setattr(house.delivery._moves, "add", moved)
    monkeypatch.setattr("services.notifier.delivery.NOTE_AGAIN_SECONDS", 0.01)
    await house.deliver()
    assert away == []
    assert await house.emails() == dict.fromkeys(EmailKind, (EmailState.SENT, 1))


async def test_an_outage_costs_no_attempt_once_the_circuit_is_open(house):
    created = event()
    house.transport.failures["staff"] = [MailUnavailable("away")] * 6
    for _ in range(4):
        with pytest.raises(Retry, match="away"):
            await house.deliver(created)
    for _ in range(2):
        house.circuit._open_until = 0.0  # the next one is the probe
        with pytest.raises(Hold, match="away"):
            await house.deliver(created)


async def test_nothing_leaves_once_the_circuit_opened_though_its_turn_had_come(house):
    """Between the turn and the request stands the row, and the disk it is written to."""
    add = house.delivery._moves.add

    async def throttled_meanwhile(step):
        house.circuit.failed(MailThrottled("slowly", retry_after_seconds=60))
        return await add(step)

    house.delivery._moves = SimpleNamespace(add=throttled_meanwhile)
    with pytest.raises(Hold, match="slowly"):
        await house.deliver()
    assert house.transport.sent == []
    assert {state for state, _ in (await house.emails()).values()} == {EmailState.PENDING}


async def test_what_can_still_be_mended_decides_over_what_cannot(house):
    house.transport.failures = {"prospect": [MailRejected("no such mailbox")], "staff": [MailUnavailable("away")]}
    with pytest.raises(Retry, match="staff e-mail: away"):
        await house.deliver()


@pytest.mark.parametrize("at_once", [False, True])
async def test_the_form_is_no_mail_bomb_and_the_staff_hear_of_every_lead(house, at_once):
    events = [event(lead_created(f"Ann+{number}@example.com")) for number in range(6)]
    if at_once:
        await asyncio.gather(*(house.deliver(created) for created in events))
    else:
        for created in events:
            await house.deliver(created)
    assert house.transport.sent.count("prospect") == 2
    assert house.transport.sent.count("staff") == 6
    assert (await house.emails())["prospect"] == (EmailState.DROPPED, 0)


async def test_a_database_that_is_away_costs_no_attempt(house):
    async def locked():
        raise Problem(ProblemType.UNAVAILABLE, "Leads cannot keep or read anything right now.")

    created = event()
    house.transport.failures["prospect"] = [MailRejected("no such mailbox")]
    moves, house.delivery._moves = house.delivery._moves, SimpleNamespace(add=lambda _step: locked())
    with pytest.raises(Hold, match="cannot keep or read"):
        await house.deliver(created)
    house.delivery._moves = moves
    assert house.transport.sent == []


async def test_a_defect_in_one_email_is_not_hidden_behind_the_rejection_of_the_other(house):
    house.transport.failures = {"prospect": [MailRejected("no such mailbox")], "staff": [ZeroDivisionError()]}
    with pytest.raises(ZeroDivisionError):
        await house.deliver()
