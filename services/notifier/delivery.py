"""Delivery: two e-mails for each lead, each sent once as far as anybody can know, each with a state that says so.

The state is written before a request leaves and after its answer was read. `sending` is a lease that whoever sends
renews: while it runs, another notifier that got the event too lets go of it for a while. What is found in `sending`
with the lease run out was cut short: it becomes `uncertain`, visibly, and is sent again. Before an event becomes a dead
letter, what was not sent is `failed`, and what may have been stays `uncertain`; its replay tries both again.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from weakref import WeakValueDictionary

import structlog

from services.notifier import store
from services.notifier.circuit import Circuit, CircuitOpen, CircuitState
from services.notifier.email import (
    Accepted,
    EmailMessage,
    MailError,
    MailRejected,
    MailThrottled,
    MailTransport,
    MailUnauthorized,
    MailUnavailable,
    MailUncertain,
)
from services.notifier.store import Move
from services.notifier.tables import SETTLED, Email, EmailKind, EmailState
from shared.addresses import mailbox_key
from shared.database import Database, GroupCommit, as_utc
from shared.events import Event, LeadCreated
from shared.ids import new_id
from shared.metrics import CIRCUIT_OPEN, EMAIL_SECONDS, EMAILS
from shared.problems import Problem
from shared.topology import REDELIVERY_LIMIT
from shared.worker import GiveUp, Hold, Retry

HOLD_SECONDS = 300.0
"""How long a message is kept in hand while sending is paused: well under RabbitMQ's 30 minutes for an ack."""

LEASE_SECONDS = 10.0
"""How long a row in `sending` belongs to who wrote it. Short, since after a crash its e-mail waits for so long."""

NOTE_AGAIN_SECONDS = 0.5
"""Between two tries to write down that an e-mail was sent."""

STAFF_MAILBOX = "staff"

CUT_SHORT = "cut short while it was sent"
REPEATED = "an earlier request may have been taken too: it may come twice"
MAY_BE_SENT = "it may have been sent all the same, and a retry or a replay sends it again"

log = structlog.get_logger()


@dataclass(frozen=True)
class Composer:
    """Writes the two e-mails of a lead. `compose(email, lead)` is pure: a later attempt writes the same words."""

    compose: Callable[[Email, LeadCreated], EmailMessage]
    prospect_mails_per_day: int


class Delivery:
    """Delivers the e-mails of one event at a time, of many events at once."""

    def __init__(
        self,
        database: Database,
        transport: MailTransport,
        circuit: Circuit,
        composer: Composer,
        *,
        lease_seconds: float = LEASE_SECONDS,
        hold_seconds: float = HOLD_SECONDS,
    ) -> None:
        self._database = database
        self._lease_seconds = lease_seconds
        self._hold_seconds = hold_seconds
        self._transport = transport
        self._circuit = circuit
        self._composer = composer
        plan = partial(store.plan, prospect_mails_per_day=composer.prospect_mails_per_day)
        self._plans = GroupCommit(database, plan)
        self._moves = GroupCommit(database, store.move)
        for kind, state in itertools.product(EmailKind, EmailState):
            EMAILS.labels(kind, state)  # there from the start: a first failure is seen as a rise
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def deliver(self, event: Event, lead: LeadCreated) -> None:
        """Return when both e-mails are settled. Raises `Retry`, `Hold` or `GiveUp`, after trying both.

        Two copies of an event take turns: the bus may hand out the second while the first is in hand, and what that
        one is sending must not be taken for something cut short.
        """
        async with self._turns.setdefault(event.id, asyncio.Lock()):
            await self._deliver(event, lead)

    async def give_up(self, event: Event, lead: LeadCreated, reason: str) -> None:
        """Write down that no further attempt follows, until somebody replays the event. Raises `Hold`."""
        async with self._turns.setdefault(event.id, asyncio.Lock()):
            for email in await self._planned(event, lead):
                if email.state in SETTLED or email.state is EmailState.FAILED:
                    continue
                await self._take_over(email)
                may_be_sent = email.state is EmailState.UNCERTAIN
                await self._move(email, EmailState.UNCERTAIN if may_be_sent else EmailState.FAILED, reason)

    async def _deliver(self, event: Event, lead: LeadCreated) -> None:
        emails = await self._planned(event, lead)
        unsettled = [email for email in emails if email.state not in SETTLED]
        results = await asyncio.gather(*(self._send(email, lead) for email in unsettled), return_exceptions=True)
        _raise_weightiest([result for result in results if isinstance(result, BaseException)])

    async def _planned(self, event: Event, lead: LeadCreated) -> Sequence[Email]:
        new = new_emails(event, lead)
        with _held_while_database_is_away():
            emails = await self._plans.add(new)
        for email in emails:
            if email.id == new[0].id and email.state is EmailState.DROPPED:
                EMAILS.labels(email.kind, email.state).inc()
        return emails

    async def _send(self, email: Email, lead: LeadCreated) -> None:
        """Send one e-mail, waiting out a pause that has nothing to do with it."""
        await self._take_over(email)
        if email.cuts >= REDELIVERY_LIMIT:
            # It ends its notifier each time, which no bus can tell: the hold in between makes a new message of it.
            raise GiveUp(f"{email.kind} e-mail: {CUT_SHORT}, {email.cuts} times in a row; {MAY_BE_SENT}")
        # What may have been sent once does not become certainly unsent by a later refusal.
        unsent = EmailState.UNCERTAIN if email.state is EmailState.UNCERTAIN else EmailState.PENDING
        while True:
            try:
                accepted = await self._attempt(email, lead)
            except CircuitOpen as pause:
                if email.state is not EmailState.SENDING:
                    raise Hold(pause.reason) from pause
                await self._move(email, unsent, pause.reason)
                continue
            except (MailThrottled, MailUnauthorized) as error:
                await self._move(email, unsent, error.reason)
                continue
            except MailError as error:
                await self._failed(email, error, unsent)
            except Exception:
                if email.state is EmailState.SENDING:
                    await self._move(email, EmailState.UNCERTAIN, "a defect cut it short while it was sent")
                raise
            else:
                await self._sent(email, lead, accepted)
            return

    async def _take_over(self, email: Email) -> None:
        """What somebody was sending is theirs while the lease runs (`Hold`), and was cut short when it has run out."""
        if email.state is not EmailState.SENDING:
            return
        if abs(_age_seconds(email.updated_at)) < self._lease_seconds:  # ahead: the clock was set back
            raise Hold(f"{email.kind} e-mail: another notifier has it in hand, or had when it was cut short")
        await self._move(email, EmailState.UNCERTAIN, CUT_SHORT, cuts=email.cuts + 1)

    async def _attempt(self, email: Email, lead: LeadCreated) -> Accepted:
        message = self._composer.compose(email, lead)
        try:
            async with self._circuit.attempt(self._hold_seconds):
                again = REPEATED if email.state is EmailState.UNCERTAIN else None
                await self._move(email, EmailState.SENDING, again)
                self._circuit.check()
                if again:
                    log.warning("email sent again", kind=email.kind, email_id=email.id, reason=again)
                return await self._send_leased(email, message)
        finally:
            CIRCUIT_OPEN.set(self._circuit.state is not CircuitState.CLOSED)

    async def _send_leased(self, email: Email, message: EmailMessage) -> Accepted:
        """Send, and renew the lease in time for as long as that takes."""
        sending = asyncio.ensure_future(self._transport.send(message))
        try:
            while not (await asyncio.wait({sending}, timeout=self._lease_seconds / 3))[0]:
                await self._renew(email)
            return sending.result()
        finally:
            sending.cancel()

    async def _renew(self, email: Email) -> None:
        """Failing to is no reason to cut short what is being sent: the step after it will see who was first."""
        try:
            same = Move(email.id, EmailState.SENDING, email.attempts, EmailState.SENDING, email.reason, cuts=email.cuts)
            await self._moves.add(same)
        except Problem as problem:
            log.warning("lease not renewed", email_id=email.id, reason=problem.detail)

    async def _sent(self, email: Email, lead: LeadCreated, accepted: Accepted) -> None:
        """Write it down, however long the database is away: what is not written down is sent again."""
        while True:
            try:
                await self._move(email, EmailState.SENT, email.reason, provider_message_id=accepted.message_id)
                break
            except Hold as hold:
                if not isinstance(hold.__cause__, Problem):
                    raise
            log.warning("email sent, and not written down yet", kind=email.kind, email_id=email.id)
            await asyncio.sleep(NOTE_AGAIN_SECONDS)
        EMAIL_SECONDS.observe(_age_seconds(lead.created_at))
        log.info("email sent", kind=email.kind, email_id=email.id, lead_id=email.lead_id, attempt=email.attempts)

    async def _failed(self, email: Email, error: MailError, unsent: EmailState) -> None:
        words = f"{email.kind} e-mail: {error.reason}"
        if isinstance(error, MailRejected):
            await self._move(email, EmailState.FAILED, error.reason)
            raise GiveUp(words) from error
        await self._move(email, EmailState.UNCERTAIN if isinstance(error, MailUncertain) else unsent, error.reason)
        if email.state is EmailState.UNCERTAIN:
            words = f"{words.rstrip('.')}; {MAY_BE_SENT}"
        if isinstance(error, MailUnavailable) and self._circuit.state is not CircuitState.CLOSED:
            raise Hold(words) from error  # the provider is away, for all e-mails: this one was the probe
        raise Retry(words) from error

    async def _move(
        self,
        email: Email,
        state: EmailState,
        reason: str | None = None,
        *,
        provider_message_id: str | None = None,
        cuts: int = 0,
    ) -> None:
        """Write the step down. Raises `Hold` when another consumer has this e-mail in hand."""
        cuts = email.cuts if state is EmailState.SENDING else cuts  # an answer, whatever it says, ends the row of them
        step = Move(email.id, email.state, email.attempts, state, reason, provider_message_id, cuts)
        with _held_while_database_is_away():
            moved = await self._moves.add(step)
        if not moved:
            raise Hold(f"{email.kind} e-mail: another notifier has it in hand")
        email.attempts += step.is_attempt
        email.state, email.reason, email.cuts = state, reason, cuts
        if state not in {EmailState.SENDING, step.seen_state}:
            EMAILS.labels(email.kind, state).inc()


def new_emails(event: Event, lead: LeadCreated) -> tuple[Email, Email]:
    """The two that an event causes, as they are planned: the prospect's and the staff's."""
    prospect = _new_email(event, lead, EmailKind.PROSPECT, mailbox_key(lead.email))
    return prospect, _new_email(event, lead, EmailKind.STAFF, STAFF_MAILBOX)


def _age_seconds(moment: datetime) -> float:
    return (datetime.now(UTC) - as_utc(moment)).total_seconds()


def _new_email(event: Event, lead: LeadCreated, kind: EmailKind, mailbox: str) -> Email:
    now = datetime.now(UTC)
    return Email(
        id=new_id(),
        event_id=event.id,
        lead_id=lead.lead_id,
        kind=kind,
        mailbox=mailbox,
        state=EmailState.PENDING,
        created_at=now,
        updated_at=now,
    )


@contextmanager
def _held_while_database_is_away() -> Iterator[None]:
    """Our own database is not the message's fault: it must cost no attempt."""
    try:
        yield
    except Problem as problem:
        raise Hold(problem.detail) from problem


def _raise_weightiest(errors: Sequence[BaseException]) -> None:
    """One message, two e-mails: what can still be mended decides; only when nothing can, it is given up."""
    for error in errors:
        if not isinstance(error, Retry | Hold | GiveUp):
            raise error
    for kind in (Retry, Hold, GiveUp):
        found = [error for error in errors if isinstance(error, kind)]
        if found:
            raise kind("; ".join(str(error) for error in found))
