"""The bus, whichever it is: that it answers, and what waits in it that somebody should know of."""

from services.cli.doctor.patient import Patient, RoomName
from services.cli.doctor.report import Finding, failed, ok, skipped, warning
from shared.bus import BusUnavailable, QueueStats, bus_for
from shared.sqlite import file_of
from shared.topology import Topology, leads_topology


async def check_bus(patient: Patient) -> list[Finding]:
    """By the kind of bus that `LEADS_BROKER_URL` names."""
    settings = patient.any_settings
    if settings is None:
        return [skipped("broker", "the settings come first")]
    if not {RoomName.API, RoomName.NOTIFIER} & set(patient.rooms):
        return []  # the storage knows nothing of events
    url = settings.resolved_broker_url
    topology = leads_topology(settings.retry_delays_seconds)
    try:
        bus_for(url, topology, client_name="doctor")
    except ValueError as error:
        return [failed("broker", f"{error}.", "Correct LEADS_BROKER_URL.")]
    if file_of(url) is not None:
        return await _check_embedded(url, topology)
    from services.cli.doctor.rabbitmq import check_rabbitmq  # loads aio-pika, which the embedded bus does without

    return await check_rabbitmq(patient.rooms, url, topology)


def judge(stats: QueueStats) -> list[Finding]:
    """What a queue's numbers ask of somebody."""
    found: list[Finding] = []
    if stats.dead:
        told = f"{stats.dead} dead letters in {stats.queue}: these events were given up."
        found.append(warning("queue", told, "`leads queues peek` tells why; then `leads queues replay`."))
    if not stats.consumers:
        told = f"Nobody consumes {stats.queue}, where {stats.ready} events wait."
        found.append(warning("queue", told, "Start the notifier, or see what its log says. Nothing is lost."))
    retrying = sum(stats.retrying.values())
    told = f"{stats.queue}: {stats.ready} wait, {retrying} will be tried again, {stats.consumers} consumers"
    return found or [ok("queue", told)]


async def _check_embedded(url: str, topology: Topology) -> list[Finding]:
    path = file_of(url)
    if path is None or not path.exists():
        return [skipped("broker", f"{path} is not there yet: the first start makes it")]
    try:
        async with bus_for(url, topology, client_name="doctor") as bus:
            stats = [await bus.stats(queue) for queue in topology.queues]
    except BusUnavailable as error:
        return [failed("broker", str(error), "Mend the file, or set LEADS_BROKER_URL. Leads are accepted meanwhile.")]
    found = [finding for one in stats for finding in judge(one)]
    return [ok("broker", f"the embedded bus answers: {path}"), *found]
