"""A deployment whose api and notifier run more than once, behind one nginx."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.harness.nginx import Nginx
from tests.harness.sizes import House

SETTINGS: Mapping[str, str] = {"LEADS_RATE_COUNTS": "database", "LEADS_TRUSTED_PROXIES": "127.0.0.1/32"}
"""What apis behind a front are told (docs/scaling.md)."""


@dataclass(frozen=True)
class Replicas:
    """`apis` and `notifiers` are names of the deployment's processes; leads are sent to the front."""

    house: House
    front: Nginx
    apis: Sequence[str]
    notifiers: Sequence[str]


@asynccontextmanager
async def replicated(house: House, folder: Path, *, apis: int = 2, notifiers: int = 2) -> AsyncIterator[Replicas]:
    """So many apis and notifiers in place of one each. The house ends the rooms, this the front."""
    deployment = house.deployment
    names = [
        [room, *(deployment.add(room) for _ in range(count - 1))]
        for room, count in {"api": apis, "notifier": notifiers}.items()
    ]
    for name in (*names[0][1:], *names[1][1:]):
        await deployment.restart(name)
    front = Nginx(folder, [deployment.ports[name] for name in names[0]])
    deployment.ports["front"] = front.port
    try:
        await front.start()
        deployment.door = "front"
        yield Replicas(house, front, *names)
    finally:
        deployment.door = "api"
        front.stop()
