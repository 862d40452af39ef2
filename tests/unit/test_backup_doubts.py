"""What may have been sent after a backup was taken is written down before it is sent again, and nothing else is."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest_asyncio
from sqlalchemy import select, update
from sqlmodel import col

from services.api.settings import MIGRATIONS as API_MIGRATIONS
from services.cli.backup.doubts import Doubts, write_down
from services.notifier import store
from services.notifier.delivery import new_emails
from services.notifier.settings import MIGRATIONS as NOTIFIER_MIGRATIONS
from services.notifier.tables import Email, EmailKind, EmailState
from shared import outbox
from shared.database import Database
from shared.events import Event
from shared.outbox import OutboxEvent
from tests.harness.events import event, lead_created

WHY = "restored from the backup of noon"
SENT, DROPPED, PENDING, SENDING = EmailState.SENT, EmailState.DROPPED, EmailState.PENDING, EmailState.SENDING
UNCERTAIN, FAILED = EmailState.UNCERTAIN, EmailState.FAILED


class Restored:
    """The two databases of a backup."""

    def __init__(self, api: Database, notifier: Database) -> None:
        self.api, self.notifier = api, notifier

    async def published(self, *states: EmailState, email: str = "ann@example.com", reason: str | None = None) -> Event:
        """An event that the bus had, with its two e-mails in these states; with none, nobody has read it yet."""
        lead = lead_created(email)
        told = event(lead)
        await self.api.write(partial(outbox.add, events=[told]))
        waiting = await self.api.read(partial(outbox.unpublished, limit=1000))
        sent = [one for one in waiting if one.message.id == told.id]
        await self.api.write(partial(outbox.mark_published, confirmed=sent))
        if states:
            wanted = [new_emails(told, lead)]
            await self.notifier.write(partial(store.plan, wanted=wanted, prospect_mails_per_day=100))
            for kind, state in zip(EmailKind, states, strict=True):
                values = {"state": state, "reason": reason, "attempts": int(state is not PENDING)}
                of_it = (col(Email.event_id) == told.id, col(Email.kind) == kind)
                change = update(Email).where(*of_it).values(values)
                await self.notifier.write(lambda session, change=change: session.execute(change))
        return told

    async def write_down(self, *, cap: int = 100) -> Doubts:
        return await write_down(self.api, self.notifier, WHY, prospect_mails_per_day=cap)

    async def again(self) -> list[str]:
        return [one.message.id for one in await self.api.read(partial(outbox.unpublished, limit=1000))]

    async def emails(self, told: Event) -> dict[EmailKind, tuple[EmailState, int, str | None]]:
        chosen = select(Email).where(col(Email.event_id) == told.id)
        found = await self.notifier.read(lambda session: session.execute(chosen).scalars().all())
        return {email.kind: (email.state, email.attempts, email.reason) for email in found}


@pytest_asyncio.fixture
async def restored(tmp_path: Path) -> AsyncIterator[Restored]:
    async with AsyncExitStack() as stack:
        both = []
        for name, versions in (("leads", API_MIGRATIONS), ("notifier", NOTIFIER_MIGRATIONS)):
            database = Database(f"sqlite:///{tmp_path / name}.db")
            stack.push_async_callback(database.close)
            await database.migrate(versions)
            both.append(database)
        yield Restored(*both)


async def test_what_is_settled_stays_as_it_was(restored: Restored):
    settled = [await restored.published(SENT, SENT), await restored.published(DROPPED, SENT)]
    before = [await restored.emails(told) for told in settled]
    assert await restored.write_down() == Doubts()
    assert await restored.again() == []
    assert [await restored.emails(told) for told in settled] == before


async def test_what_is_not_settled_is_uncertain_first_and_published_again(restored: Restored):
    half = await restored.published(SENT, PENDING)
    cut = await restored.published(SENDING, UNCERTAIN)
    failed = await restored.published(FAILED, SENT, reason="no such mailbox")
    unread = await restored.published()
    assert await restored.write_down() == Doubts(events=4, emails=1 + 2 + 1 + 2)
    assert await restored.again() == sorted([half.id, cut.id, failed.id, unread.id])
    emails = await restored.emails(half)
    assert emails[EmailKind.PROSPECT] == (SENT, 1, None)
    assert emails[EmailKind.STAFF] == (UNCERTAIN, 1, f"{WHY} (it was pending)")
    assert {(state, attempts) for state, attempts, _ in (await restored.emails(cut)).values()} == {(UNCERTAIN, 2)}
    was_failed = (await restored.emails(failed))[EmailKind.PROSPECT]
    assert was_failed == (UNCERTAIN, 2, f"{WHY} (it was failed: no such mailbox)")
    assert {kind: one[:2] for kind, one in (await restored.emails(unread)).items()} == dict.fromkeys(
        EmailKind, (UNCERTAIN, 1)
    )


async def test_no_mailbox_gets_more_than_its_share_of_the_day_by_a_restore(restored: Restored):
    first, second = [await restored.published(email="ann@example.com") for _ in range(2)]
    await restored.write_down(cap=1)
    states = [(await restored.emails(told))[EmailKind.PROSPECT][0] for told in (first, second)]
    assert states == [UNCERTAIN, DROPPED]


async def test_an_event_that_cannot_be_read_is_left_to_the_notifier(restored: Restored):
    told = await restored.published()
    spoil = update(OutboxEvent).values(body=b"{}")
    await restored.api.write(lambda session: session.execute(spoil))
    assert await restored.write_down() == Doubts(events=1, emails=0)
    assert await restored.again() == [told.id]
