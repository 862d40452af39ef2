"""What an audit reads: the stores of all rooms and the bus, opened by their settings.

One that cannot be read is said in one line that names its setting.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from services.api.settings import MIGRATIONS, ApiSettings
from services.api.store import add_audit_run
from services.api.tables import AuditRun
from services.cli.audit.queue import DEAD_LETTERS_NAMED
from services.notifier.settings import NotifierSettings
from services.storage.blobs import BlobFacts
from services.storage.inventory import Inventory, inventory_of
from services.storage.settings import StorageSettings
from shared.bus import BusUnavailable, EventBus, QueueStats, bus_for
from shared.database import Database
from shared.problems import Problem
from shared.settings import CannotStart
from shared.sqlite import TELLING, file_of
from shared.topology import NOTIFIER_QUEUE, Queue, leads_topology
from shared.troubles import trouble_of

Result = TypeVar("Result")


class CannotAudit(Exception):  # noqa: N818
    """A store cannot be read; the message is the one line to print."""


@dataclass(frozen=True)
class Settings:
    """Those of the rooms whose stores are read."""

    api: ApiSettings
    notifier: NotifierSettings
    storage: StorageSettings


class Stores:
    """The stores, open. Every verb raises `CannotAudit`."""

    def __init__(self, api: Database, notifier: Database, inventory: Inventory, bus: EventBus, queue: Queue) -> None:
        self._api = api
        self._notifier = notifier
        self._inventory = inventory
        self._bus = bus
        self._queue = queue

    async def read_api(self, work: Callable[[Session], Result]) -> Result:
        """The result of `work` on one snapshot of the api's database."""
        with _named("LEADS_DATABASE_URL"):
            return await self._api.read(work)

    async def read_notifier(self, work: Callable[[Session], Result]) -> Result:
        """The result of `work` on one snapshot of the notifier's database."""
        with _named("LEADS_NOTIFIER_DATABASE_URL"):
            return await self._notifier.read(work)

    async def blobs(self, blob_ids: Sequence[str]) -> dict[str, BlobFacts]:
        """What is known of those that are stored."""
        with _named("LEADS_BLOB_URL"):
            return await self._inventory.facts(blob_ids)

    async def digests(self, blob_ids: Sequence[str]) -> dict[str, str]:
        """SHA-256 of those that are stored."""
        with _named("LEADS_BLOB_URL"):
            return await self._inventory.digests(blob_ids)

    async def newest_lead(self) -> str | None:
        """The id of a lead that the database of these resumes had a while ago, as the api noted it beside them."""
        with _named("LEADS_BLOB_URL"):
            return await self._inventory.newest_lead()

    async def blob_ids(self) -> AsyncIterator[Sequence[str]]:
        """All that are stored, in batches."""
        with _named("LEADS_BLOB_URL"):
            async for batch in self._inventory.listing():
                yield batch

    async def remove_blobs(self, blob_ids: Sequence[str]) -> None:
        """Remove these durably: the one thing that an audit ever changes in a store, and only when told to."""
        with _named("LEADS_BLOB_URL"):
            await self._inventory.remove(blob_ids)

    async def queue_stats(self) -> QueueStats:
        """How much is where in the notifier's queue."""
        with _named("LEADS_BROKER_URL"):
            return await self._bus.stats(self._queue)

    async def queue_listing(self) -> AsyncIterator[Sequence[str]]:
        """The ids of events that the bus has, in batches: all, or where it cannot be listed the oldest dead letters."""
        with _named("LEADS_BROKER_URL"):
            async for batch in self._bus.listing(self._queue) or self._dead_letters():
                yield batch

    async def _dead_letters(self) -> AsyncIterator[Sequence[str]]:
        yield [letter.message.id for letter in await self._bus.peek(self._queue, DEAD_LETTERS_NAMED)]

    @property
    def queue_can_be_listed(self) -> bool:
        """Whether the bus can tell which events it has, and not only how many."""
        return self._bus.listing(self._queue) is not None

    async def keep(self, run: AuditRun) -> None:
        """Keep the result, for the api's metrics."""
        with _named("LEADS_DATABASE_URL"):
            await self._api.write(partial(add_audit_run, run=run))


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Stores]:
    """All stores, closed afterwards. Raises `CannotAudit` for the first that is not there."""
    api, notifier = settings.api, settings.notifier
    _check_file("LEADS_DATABASE_URL", api.resolved_database_url)
    _check_file("LEADS_NOTIFIER_DATABASE_URL", notifier.resolved_database_url)
    with _named("LEADS_BLOB_URL"):
        inventory = inventory_of(settings.storage)
    topology = leads_topology(api.retry_delays_seconds)
    async with AsyncExitStack() as stack:
        with _named("LEADS_DATABASE_URL"):
            leads_db = Database(api.resolved_database_url)
            stack.push_async_callback(leads_db.close)
            await leads_db.migrate(MIGRATIONS)
        with _named("LEADS_NOTIFIER_DATABASE_URL"):
            notifier_db = Database(notifier.resolved_database_url, setting="LEADS_NOTIFIER_DATABASE_URL")
            stack.push_async_callback(notifier_db.close)
        with _named("LEADS_BROKER_URL"):
            bus = await stack.enter_async_context(bus_for(api.resolved_broker_url, topology, client_name="audit"))
        yield Stores(leads_db, notifier_db, inventory, bus, topology.queue(NOTIFIER_QUEUE))


def _check_file(setting: str, url: str) -> None:
    """Opening would make an empty database where there is none."""
    path = file_of(url)  # one that is none is said by whoever opens it
    try:
        if path is not None and not path.is_file():
            raise CannotAudit(f"{setting}: there is no database {path} (`leads init` makes it)")
    except OSError as error:  # its folder is closed to us
        raise CannotAudit(f"{setting}: {path} {TELLING[sqlite3.SQLITE_CANTOPEN]}") from error


@contextmanager
def _named(setting: str) -> Iterator[None]:
    """Say which setting leads to what does not work."""
    try:
        yield
    except Problem as problem:  # the words are for callers of the api: what the database said stands behind it
        cause = problem.__cause__ or problem
        trouble = trouble_of(cause)
        said = trouble.words if trouble else getattr(cause, "orig", None) or cause
        raise CannotAudit(f"{setting}: {said}") from problem
    except (SQLAlchemyError, OSError, BusUnavailable, CannotStart, ValueError) as error:
        said = str(error).splitlines()[0]
        raise CannotAudit(said if setting in said else f"{setting}: {said}") from error
