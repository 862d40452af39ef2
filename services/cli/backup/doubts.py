"""What may have happened after a backup was taken is written into it, before anything is done once more.

The bus is in no backup: each event whose e-mails are not settled is to be published again. Its e-mails may have been
sent since, and nobody can know it any more: each is `uncertain` first, then sent (`docs/decisions/0007`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy.orm import Session

from services.notifier import store
from services.notifier.delivery import new_emails
from services.notifier.tables import Email
from shared import outbox
from shared.bus.protocol import Message
from shared.database import Database
from shared.events import Event, LeadCreated

AT_ONCE = 2000


@dataclass(frozen=True)
class Doubts:
    """How much is done once more."""

    events: int = 0
    emails: int = 0


async def write_down(api: Database, notifier: Database, why: str, *, prospect_mails_per_day: int) -> Doubts:
    """Note it in both databases; `why` is the reason that stands beside each e-mail. Raises as they do."""
    events = emails = 0
    after = ""
    while page := await api.read(partial(outbox.messages_after, type_=LeadCreated.TYPE, after=after, limit=AT_ONCE)):
        after = page[-1].id
        settled = await notifier.read(partial(store.settled_events, event_ids=[message.id for message in page]))
        doubtful = [message for message in page if message.id not in settled]
        if not doubtful:
            continue
        emails += await notifier.write(partial(_doubt, messages=doubtful, why=why, cap=prospect_mails_per_day))
        await api.write(partial(outbox.publish_again, ids=[message.id for message in doubtful]))
        events += len(doubtful)
    return Doubts(events, emails)


def _doubt(session: Session, messages: Sequence[Message], why: str, cap: int) -> int:
    """Also e-mails that nobody had planned yet: they may have been planned and sent since."""
    store.plan(session, [emails for message in messages if (emails := _emails(message))], prospect_mails_per_day=cap)
    return store.doubt(session, [message.id for message in messages], why)


def _emails(message: Message) -> tuple[Email, ...]:
    """None for an event that cannot be read: the notifier will say what is wrong with it."""
    try:
        event = Event.model_validate_json(message.body)
        lead = event.payload()
    except ValueError:
        return ()
    return new_emails(event, lead) if isinstance(lead, LeadCreated) else ()
