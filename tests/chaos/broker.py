"""RabbitMQ in the hands of a nemesis, and how long the rooms take to notice what it does, or to resume."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import aio_pika
import aiohttp
from aio_pika.exceptions import AMQPError

from shared.topology import NOTIFIER_QUEUE, leads_topology
from tests.chaos.rig import RETRY_DELAYS_SECONDS, SETTINGS, Rig
from tests.chaos.storm import Storm
from tests.chaos.verdicts import Verdicts
from tests.harness.kept import rows
from tests.harness.proxy import Proxy
from tests.harness.rabbitmq import RabbitNode
from tests.harness.rabbitmq_cluster import RabbitCluster
from tests.harness.sizes import AT_SCALE, at_scale

PROBE = "probe"
PAUSE_SECONDS = 1.0
"""Between two leads of a client: some 16 leads a second, so that a slow machine has no backlog of its own making."""

PATIENCE_SECONDS = 60.0
ANSWER_SECONDS = 5.0
LOOK_AGAIN_SECONDS = 0.02
SETTLED_SECONDS = 0.3
"""After the broker went: what it confirmed before is marked by then."""


class Broker:
    """The node or cluster, what may stand between it and the rooms, and the rig of their deployment."""

    topology = leads_topology(RETRY_DELAYS_SECONDS)
    queue = topology.queue(NOTIFIER_QUEUE)

    def __init__(self, rig: Rig, node: RabbitNode | RabbitCluster, proxy: Proxy | None) -> None:
        self.rig = rig
        self.node = node
        self.proxy = proxy
        self.vhost = rig.deployment.environment["LEADS_BROKER_URL"].rsplit("/", 1)[1]

    @classmethod
    @asynccontextmanager
    async def of(cls, node: RabbitNode, folder: Path, verdicts: Verdicts) -> AsyncIterator[Self]:
        """With a proxy before the node, and a deployment in `folder` that is led there."""
        node.start()
        async with (
            Proxy(node.port) as proxy,
            at_scale(folder, node, SETTINGS, broker_port=proxy.port) as house,
        ):
            broker = cls(Rig(house, AT_SCALE, verdicts), node, proxy)
            await broker.prepare()
            yield broker

    async def suffer(self, scenario: str, harm: Callable[[], Awaitable[object]], *, times: int) -> Storm:
        """Do harm so many times, each under load, with time to recover in between. Fails when a lead is refused."""

        async def nemesis(storm: Storm) -> int:
            for _ in range(times):
                await storm.reaches(storm.answered + storm.gave_up + self.rig.dice.randint(10, 40))
                await harm()
            await storm.reaches(storm.answered + storm.gave_up + 40)
            return times

        storm = await self.rig.run(scenario, nemesis, leads=None, pause_seconds=PAUSE_SECONDS)
        assert storm.gave_up == 0
        assert {attempt.status for attempt in storm.ledger} == {201}, "the intake needs no broker"
        return storm

    async def prepare(self) -> None:
        """Once, before the first harm."""
        await self._confirms()

    async def restart(self) -> float:
        """Up again, after whatever; the seconds from its being ready until an event is confirmed again.

        It is ready when it confirms a message of somebody else: a quorum queue may still have no leader for seconds
        after the node takes connections.
        """
        await asyncio.sleep(SETTLED_SECONDS)
        published = self.published()
        await asyncio.to_thread(self.node.restart)
        await self._confirms()
        return await self.seconds_until(lambda: self.published() > published)

    async def _confirms(self) -> None:
        """Wait until a message is kept in a queue of our own, which is as the rooms' are."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await self._confirmed():
                await asyncio.sleep(LOOK_AGAIN_SECONDS)

    async def _confirmed(self) -> bool:
        """A node that has just come up may leave a question unanswered for ever: it is asked anew."""
        asked = asyncio.create_task(self._ask())
        await asyncio.wait([asked], timeout=ANSWER_SECONDS)
        if not asked.done():
            asked.cancel()  # and not waited for: it says goodbye, to which there may be no answer either
            return False
        if isinstance(asked.exception(), AMQPError | TimeoutError | OSError):
            return False
        asked.result()
        return True

    async def _ask(self) -> None:
        connection = await aio_pika.connect(self.node.url(self.vhost))
        async with connection, connection.channel() as channel:
            await channel.declare_queue(PROBE, durable=True, arguments={"x-queue-type": "quorum"})
            await channel.default_exchange.publish(aio_pika.Message(b""), PROBE)

    def published(self) -> int:
        """Events that the broker has confirmed."""
        return self._count("published_at IS NOT NULL")

    def unpublished(self) -> int:
        """Events that wait in the outbox."""
        return self._count("published_at IS NULL")

    def _count(self, which: str) -> int:
        return int(rows(self.rig.deployment.leads_db, f"SELECT count(*) FROM outbox WHERE {which}")[0][0])

    def newest_lead(self) -> str:
        """Its id; those of later leads sort behind it."""
        return str(rows(self.rig.deployment.leads_db, "SELECT max(id) FROM leads")[0][0])

    def is_sent_after(self, lead_id: str) -> bool:
        """Whether SendGrid has taken an e-mail of a later lead."""
        query = "SELECT 1 FROM emails WHERE lower(state) = 'sent' AND lead_id > ? LIMIT 1"
        return bool(rows(self.rig.deployment.notifier_db, query, lead_id))

    def warnings(self, room: str) -> int:
        """How often the room has told that the bus is unavailable."""
        return self.rig.deployment.log_file(room).read_text().count('"event": "bus unavailable')

    async def trouble(self) -> str:
        """What the api's /readyz says of its broker."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.rig.deployment.api_url}/readyz") as response,
        ):
            return str((await response.json())["checks"]["broker"])

    async def seconds_until(self, is_so: Callable[[], bool]) -> float:
        """How long that took. Fails when it does not come."""
        began_at = time.monotonic()
        while not is_so():
            assert time.monotonic() - began_at < PATIENCE_SECONDS, "it did not come to that"
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return time.monotonic() - began_at

    async def without_notifier(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do it while nobody consumes: what is published stays in the queue."""
        await self.rig.deployment.stop("notifier")
        await work()
        await self.rig.deployment.restart("notifier")
