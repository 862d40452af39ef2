"""The api, wired: what it is made of, and in which order that starts and stops."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi_offline import FastAPIOffline

from services.api import audits, leads, store
from services.api.intake import Intake
from services.api.lead_reads import LeadReads
from services.api.openapi import INFO, describe
from services.api.rate_counts import DatabaseCounts, ProcessCounts
from services.api.rates import Rates
from services.api.resume_search.reader import ResumeReader
from services.api.resume_search.reading import ResumeReading
from services.api.routes import intake_routes
from services.api.settings import MIGRATIONS, ApiSettings
from services.api.staff import Staff
from services.api.staff_routes import lead_routes, login_routes
from services.api.storage_client import StorageClient
from services.api.sweep import Sweep
from services.api.upload_routes import upload_routes
from shared.background import measuring, running
from shared.bus import bus_for
from shared.cors import cors
from shared.database import Database, GroupCommit
from shared.direct import ask_directly
from shared.disk import local_places, measure_databases
from shared.health import Health
from shared.looks import Looks
from shared.relay import Relay
from shared.tickets import Tickets
from shared.tokens import SERVICE, STAFF, Tokens
from shared.topology import NOTIFIER_QUEUE, leads_topology
from shared.web import create_service

CORS_METHODS = ("GET", "POST", "PATCH")
CORS_READ = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "Range")
CORS_SHOWN = (
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "Retry-After",
)


def create_app(settings: ApiSettings) -> FastAPI:
    """The api of these settings. Raises `SettingsError` or `ValueError` for one that cannot work."""
    database = Database(settings.resolved_database_url)
    topology = leads_topology(settings.retry_delays_seconds)
    bus = bus_for(settings.resolved_broker_url, topology, client_name="api")
    relay = Relay(database, bus, topology.queues)
    looks = Looks(database)
    staff = Staff(database, looks, Tokens(settings.token_key, STAFF), settings.token_lifetime_seconds)
    storage = StorageClient(settings.resolved_storage_url, Tokens(settings.resolved_service_secret, SERVICE))
    intake = Intake(
        storage,
        GroupCommit(database, store.insert_leads),
        is_kept=partial(leads.is_kept, database),
        resume_of=partial(leads.resume_of, database),
        wake_relay=relay.wake,
        concurrency=settings.upload_concurrency,
        kinds=settings.resume_kinds,
    )
    tickets = Tickets(settings.resolved_service_secret)
    sweep = Sweep(database, storage, grace_seconds=settings.unclaimed_seconds)
    rates = Rates(DatabaseCounts(database) if settings.rate_counts == "database" else ProcessCounts())
    disk = partial(measure_databases, local_places(leads_db=settings.resolved_database_url))

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(database.close)
            stack.callback(staff.close)
            await database.migrate(MIGRATIONS)
            await stack.enter_async_context(storage)
            stack.push_async_callback(bus.close)
            await stack.enter_async_context(running("relay", relay.run()))
            if settings.resume_search:
                reading = ResumeReading(database, storage, ResumeReader())
                await stack.enter_async_context(running("reading of resumes", reading.run()))
            await stack.enter_async_context(running("sweep", sweep.run(settings.sweep_interval_seconds)))
            await stack.enter_async_context(
                measuring("bus", partial(relay.look, topology.queue(NOTIFIER_QUEUE)), every_seconds=10)
            )
            await stack.enter_async_context(measuring("outbox", relay.measure, every_seconds=5))
            await stack.enter_async_context(measuring("audit", partial(audits.measure, database), every_seconds=15))
            await stack.enter_async_context(measuring("disk", disk, every_seconds=30))
            yield

    health = Health(
        required={"database": database.check, "storage": storage.check},
        optional={"broker": relay.check},
    )
    app = create_service(
        "api",
        health,
        lifespan,
        factory=FastAPIOffline,  # /docs takes a password: no script of a third party runs there
        middleware=cors(
            settings.allowed_origins, methods=CORS_METHODS, read_headers=CORS_READ, shown_headers=CORS_SHOWN
        ),
        **INFO,
    )
    public = intake_routes(settings, intake, tickets, rates)
    app.include_router(public)
    ask_directly(app, "POST", public.routes[0])
    app.include_router(upload_routes(settings, tickets, rates))
    app.include_router(login_routes(settings, staff, rates))
    reads = LeadReads(
        database, looks, storage, staff, redirect=settings.blob_redirect, search_resumes=settings.resume_search
    )
    for_staff = lead_routes(database, staff, reads)
    app.include_router(for_staff)
    routes = {route.name: route for route in for_staff.routes if isinstance(route, APIRoute)}
    ask_directly(app, "GET", routes["list_leads"], reads.page_straight)
    ask_directly(app, "GET", routes["download_resume"], reads.resume_straight)
    describe(app)
    return app
