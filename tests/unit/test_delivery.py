"""Delivery: two e-mails for a lead, each sent once as far as anybody can know, each in a state that tells the truth."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from services.notifier.circuit import Circuit
from services.notifier.compose import composer_of
from services.notifier.delivery import Composer, Delivery
from services.notifier.email import Accepted, MailRejected, MailUnavailable, MailUncertain
from services.notifier.settings import MIGRATIONS, NotifierSettings
from services.notifier.tables import Email, EmailKind, EmailState
from shared.database import Database
from shared.problems import Problem, ProblemType
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
        return Delivery(self.database, self.transport, self.circuit, composer, lease_seconds=LEASE_SECONDS)

    async def deliver(self, created=None) -> None:
        created = created or event()
        await self.delivery.deliver(created, created.payload())

    async def emails(self) -> dict[str, tuple[EmailState, int]]:
        """State and attempts of the newest e-mail of each kind."""
        every = select(Email).order_by(col(Email.id))
        found = await self.database.read(lambda session: session.execute(every).scalars().all())
        return {email.kind: (email.state, email.attempts) for email in found}

    async def found_in_sending(self) -> None:
        await self.database.write(lambda session: session.execute(update(Email).values(state=EmailState.SENDING)))


@pytest.fixture
async def house(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'notifier.db'}")
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
    with suppress(TimeoutError):
        await asyncio.wait_for(house.deliver(created), 0.1)
    assert await house.emails() == dict.fromkeys(EmailKind, (EmailState.SENDING, 1))
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


async def test_a_rejected_email_is_given_up_and_the_other_is_sent_all_the_same(house):
    created = event()
    house.transport.failures["prospect"] = [MailRejected("no such mailbox")]
    with pytest.raises(GiveUp, match="prospect e-mail: no such mailbox"):
        await house.deliver(created)
    assert await house.emails() == {"prospect": (EmailState.FAILED, 1), "staff": (EmailState.SENT, 1)}
    await house.deliver(created)
    assert house.transport.sent == ["staff", "prospect"], "a replay sends what had failed, and only that"


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
