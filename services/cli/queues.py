"""`leads queues`: what waits where, what died and why, and putting it back to work."""

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from sqlalchemy.orm import Session

from services.api.settings import MIGRATIONS, ApiSettings
from shared import outbox
from shared.bus import BusUnavailable, EventBus, QueueStats, bus_for
from shared.database import Database
from shared.events import LeadCreated
from shared.observe import configure_logs
from shared.problems import Problem
from shared.settings import CannotStart, load_or_exit
from shared.topology import NOTIFIER_QUEUE, Queue, leads_topology

app = typer.Typer(invoke_without_command=True)

Name = Annotated[str, typer.Option("--queue", help="Which queue.")]
Ids = Annotated[list[str] | None, typer.Option("--id", help="Only this message; may be given again.")]


@app.callback()
def show(context: typer.Context) -> None:
    """Show each queue: waiting, in hand, consumers, retries by level, dead letters; and the outbox's lag."""
    if context.invoked_subcommand is None:
        _run(_show())


@app.command()
def peek(*, queue: Name = NOTIFIER_QUEUE, limit: Annotated[int, typer.Option(min=1, max=1000)] = 20) -> None:
    """Show the oldest dead letters and why they died. They stay where they are."""
    _run(_peek(queue, limit))


@app.command()
def replay(*, queue: Name = NOTIFIER_QUEUE, ids: Ids = None) -> None:
    """Put dead letters back to work: all of them, or those given by --id."""
    _run(_replay(queue, ids))


@app.command()
def purge(
    *,
    queue: Name = NOTIFIER_QUEUE,
    ids: Ids = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Drop dead letters for good: all of them, or those given by --id."""
    if not yes:
        question = "These events will not be handled, unless a lost queue makes all events come again. Drop them?"
        typer.confirm(question, abort=True)
    _run(_purge(queue, ids))


@app.command()
def republish(
    leads: Annotated[list[str], typer.Option("--lead", help="Whose event; may be given again.")],
) -> None:
    """Publish a lead's event once more, for when the bus has lost it. E-mails that were sent are not sent again."""
    _run(_republish(leads))


async def _show() -> None:
    settings = load_or_exit(ApiSettings)
    waiting = await _outbox(settings)
    outbox_line = f"outbox: {waiting.events} waiting, the oldest for {waiting.oldest_age_seconds:.0f} s"
    table = Table("queue", "ready", "in hand", "consumers", "retrying", "dead", box=None)
    try:
        async with _bus(settings) as bus:
            found = [await bus.stats(queue) for queue in leads_topology(settings.retry_delays_seconds).queues]
    except BusUnavailable:
        print(outbox_line)  # it is here, and says most while the broker is not
        raise
    for stats in found:
        table.add_row(*_row(stats))
    if any(stats.unacked is None for stats in found):
        table.caption = "?: RabbitMQ's protocol does not tell what consumers hold; its pages do."
    Console().print(table)
    print(outbox_line)


async def _peek(name: str, limit: int) -> None:
    settings = load_or_exit(ApiSettings)
    async with _bus(settings) as bus:
        letters = await bus.peek(_queue(settings, name), limit)
    table = Table(Column("id", no_wrap=True, min_width=36), "event", "attempts", "died", "reason", box=None)
    for letter in letters:
        died = f"{letter.died_at:%Y-%m-%d %H:%M:%S}" if letter.died_at else "?"
        table.add_row(letter.message.id, letter.message.routing_key, str(letter.attempts), died, letter.reason)
    Console().print(table if letters else "No dead letters.")


async def _replay(name: str, ids: list[str] | None) -> None:
    settings = load_or_exit(ApiSettings)
    async with _bus(settings) as bus:
        count = await bus.replay(_queue(settings, name), ids)
    _all_found(count, ids)
    print(f"{count} back in {name}.")


async def _purge(name: str, ids: list[str] | None) -> None:
    settings = load_or_exit(ApiSettings)
    async with _bus(settings) as bus:
        count = await bus.purge(_queue(settings, name), ids)
    _all_found(count, ids)
    print(f"{count} dropped from {name}.")


async def _republish(lead_ids: Sequence[str]) -> None:
    settings = load_or_exit(ApiSettings)
    database = Database(settings.resolved_database_url)
    try:
        await database.migrate(MIGRATIONS)  # nothing waits to be published from one that was moved
        count = await database.write(partial(_publish_again, lead_ids=lead_ids))
    finally:
        await database.close()
    print(f"{count} back in the outbox: the api publishes what is there.")


def _publish_again(session: Session, lead_ids: Sequence[str]) -> int:
    """Of all these leads or of none. Raises `ValueError`."""
    events = outbox.facts_of(session, LeadCreated.TYPE, lead_ids)
    unknown = set(lead_ids) - {event.subject for event in events}
    if unknown:
        raise ValueError(f"no event tells of the lead {min(unknown)}: there is no such lead, or it is too old")
    outbox.publish_again(session, [event.id for event in events])
    return len(events)


def _all_found(count: int, ids: list[str] | None) -> None:
    if ids is not None and count < len(set(ids)):
        raise BusUnavailable(f"{count} of {len(set(ids))} are among the dead letters: see `leads queues peek` for ids")


@asynccontextmanager
async def _bus(settings: ApiSettings) -> AsyncIterator[EventBus]:
    topology = leads_topology(settings.retry_delays_seconds)
    async with bus_for(settings.resolved_broker_url, topology, client_name="cli") as bus:
        yield bus


async def _outbox(settings: ApiSettings) -> outbox.Backlog:
    database = Database(settings.resolved_database_url)
    try:
        return await database.read(outbox.backlog)
    finally:
        await database.close()


def _queue(settings: ApiSettings, name: str) -> Queue:
    topology = leads_topology(settings.retry_delays_seconds)
    try:
        return topology.queue(name)
    except KeyError:
        known = ", ".join(queue.name for queue in topology.queues)
        raise BusUnavailable(f"there is no queue {name!r}; there is {known}") from None


def _row(stats: QueueStats) -> tuple[str, ...]:
    prefix = f"{stats.queue}.retry."
    levels = [f"{level.removeprefix(prefix)}: {count}" for level, count in stats.retrying.items() if count]
    in_hand = "?" if stats.unacked is None else str(stats.unacked)
    return stats.queue, str(stats.ready), in_hand, str(stats.consumers), ", ".join(levels) or "0", str(stats.dead)


def _run(work: Coroutine[Any, Any, None]) -> None:
    configure_logs("leads", "ERROR", "auto")
    try:
        asyncio.run(work)
    except (BusUnavailable, Problem, CannotStart, ValueError) as error:
        sys.stderr.write(f"leads: {error}\n")
        raise typer.Exit(1) from None
