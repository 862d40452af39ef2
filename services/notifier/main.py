"""The notifier, wired: what it is made of, and in which order that starts and stops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI

from services.notifier.circuit import Circuit
from services.notifier.compose import composer_of
from services.notifier.consumer import given_up, subscriptions
from services.notifier.delivery import Composer, Delivery
from services.notifier.gauges import begin_queues, measure_emails, measure_queues
from services.notifier.settings import MIGRATIONS, NotifierSettings
from services.notifier.transport import transport_for
from services.notifier.yielding import yield_to_others
from shared.background import measuring, running
from shared.bus import BusUnavailable, bus_for
from shared.database import Database
from shared.disk import local_places, measure_databases
from shared.health import Health
from shared.topology import NOTIFIER_QUEUE, leads_topology
from shared.web import create_service
from shared.worker import Worker


def create_app(settings: NotifierSettings) -> FastAPI:
    """The notifier of these settings. Raises `SettingsError` or `ValueError` for one that cannot work."""
    topology = leads_topology(settings.retry_delays_seconds)
    database = Database(settings.resolved_database_url, setting="LEADS_NOTIFIER_DATABASE_URL")
    bus = bus_for(settings.resolved_broker_url, topology, client_name="notifier")
    circuit = Circuit()
    key = settings.sendgrid_api_key
    transport = transport_for(
        settings.resolved_mail_url,
        sender=settings.sender,
        api_key=key.get_secret_value() if key else "",
        base_url=settings.sendgrid_base_url,
        concurrent_sends=2 * settings.concurrency,
    )
    composer = Composer(composer_of(settings), settings.prospect_mails_per_day)
    delivery = Delivery(database, transport, circuit, composer)
    queue = topology.queue(NOTIFIER_QUEUE)
    worker = Worker(bus, queue, subscriptions(delivery), concurrency=settings.concurrency, given_up=given_up(delivery))

    places = local_places(notifier_db=settings.resolved_database_url, queue_db=settings.resolved_broker_url)
    queues, emails = partial(measure_queues, bus, topology), partial(measure_emails, database)
    disk = partial(measure_databases, places)

    async def circuit_is_closed() -> None:
        if circuit.reason is not None:
            raise RuntimeError(f"sending is paused: {circuit.reason}")

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            begin_queues(topology)
            stack.push_async_callback(database.close)
            await database.migrate(MIGRATIONS)
            stack.push_async_callback(transport.close)
            stack.push_async_callback(bus.close)
            measuring_queues = measuring(
                "queues", queues, every_seconds=10, untold=(BusUnavailable,)
            )  # the worker tells
            await stack.enter_async_context(measuring_queues)
            await stack.enter_async_context(measuring("e-mails", emails, every_seconds=10))
            await stack.enter_async_context(measuring("disk", disk, every_seconds=30))
            working = await stack.enter_async_context(running("worker", worker.run()))
            yield_to_others()
            yield
            worker.stop()
            circuit.let_go()
            await asyncio.wait({working})

    health = Health(
        required={"database": database.check},
        optional={"broker": worker.check, "mail": circuit_is_closed},
    )
    return create_service("notifier", health, lifespan, title="Leads notifier", docs_url=None, openapi_url=None)
