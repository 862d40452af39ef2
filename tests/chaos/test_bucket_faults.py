"""Resumes in a bucket of a real S3 server under load: whatever befalls the bucket or the storage, nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.chaos.rig import IN_HAND, IS_LONG, SETTINGS, Rig
from tests.chaos.storm import Storm
from tests.harness import kept
from tests.harness.proxy import Proxy
from tests.harness.s3 import S3Front, s3_front
from tests.harness.sizes import S3, with_s3

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.long, pytest.mark.timeout(0)]

LEADS = 2_000 if IS_LONG else 200
TIMES = 20 if IS_LONG else 3
FAULT_SECONDS = 4.0
"""Longer than the storage itself waits for the bucket."""


@dataclass(frozen=True)
class Bucket:
    """The rig of a deployment whose storage finds its bucket behind a proxy and a front."""

    rig: Rig
    proxy: Proxy
    front: S3Front


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bucket(tmp_path_factory, s3_server, verdicts) -> AsyncIterator[Bucket]:
    async with (
        s3_front(s3_server) as front,
        Proxy(front.port) as proxy,
        with_s3(tmp_path_factory.mktemp(S3), s3_server, SETTINGS, s3_port=proxy.port) as house,
    ):
        yield Bucket(Rig(house, S3, verdicts), proxy, front)


async def suffer(
    bucket: Bucket, name: str, harm, *, times: int = TIMES, repeated: int = 0, is_felt: bool = True
) -> None:
    """A fault that nobody is refused for shows nothing, unless it is one that nobody need be refused for."""
    nemesis = bucket.rig.at_random(harm, times=times, leads=LEADS)
    storm: Storm = await bucket.rig.run(name, nemesis, leads=LEADS, repeated=repeated)
    refused = sum(attempt.status == 503 for attempt in storm.ledger)
    bucket.rig.figure(f"{name}: refused meanwhile", "only 503", f"{refused} × 503")
    assert {attempt.status for attempt in storm.ledger} <= {201, 503, None}
    assert refused > 0 or not is_felt
    assert kept.unfinished(bucket.rig.deployment) == set()


async def test_kill_9_of_the_storage_loses_nothing(bucket: Bucket):
    await suffer(bucket, "kill -9 of the storage", lambda: bucket.rig.kill("storage"))


async def test_kill_9_of_the_api_loses_nothing(bucket: Bucket):
    await suffer(bucket, "kill -9 of the api", lambda: bucket.rig.kill("api"), repeated=IN_HAND * TIMES, is_felt=False)


async def test_connections_that_are_reset_lose_nothing(bucket: Bucket):
    """The storage asks again by itself."""
    connections = []

    async def reset() -> None:
        connections.append(bucket.proxy.reset())

    await suffer(bucket, "connections to the bucket reset", reset, times=10 * TIMES, is_felt=False)
    assert sum(connections) > 0


async def test_a_bucket_that_says_slow_down_is_waited_for(bucket: Bucket):
    async def busy() -> None:
        bucket.front.is_busy = True
        await asyncio.sleep(FAULT_SECONDS)
        bucket.front.is_busy = False

    await suffer(bucket, "503 SlowDown", busy)


async def test_a_bucket_that_is_away_is_waited_for(bucket: Bucket):
    async def away() -> None:
        await bucket.proxy.refuse()
        bucket.proxy.reset()
        await asyncio.sleep(FAULT_SECONDS)
        await bucket.proxy.heal()

    await suffer(bucket, "bucket away", away)


async def test_a_bucket_that_swallows_everything_is_waited_for(bucket: Bucket):
    """What it had been sent it still gets, and answers to nobody: the sweep takes what came of it."""

    async def swallow() -> None:
        bucket.proxy.black_hole()
        await asyncio.sleep(FAULT_SECONDS)
        await bucket.proxy.heal()

    await suffer(bucket, "black hole before the bucket", swallow)
