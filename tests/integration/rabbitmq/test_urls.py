"""`LEADS_BROKER_URL`: what it may look like, which nodes it names, and how it is told."""

import pytest

from shared.bus import BusUnavailable
from shared.bus.rabbitmq import RabbitBus, password_free
from shared.bus.rabbitmq.nodes import nodes_of
from tests.harness.work_queue import TOPOLOGY


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://leads:hunter2@broker:5672/prod", "amqp://leads:***@broker:5672/prod"),
        ("amqp://broker", "amqp://broker"),
        ("amqp://leads:hunter2@broker:port/", "a URL that cannot be read"),
        ("amqp://leads:hunter2@a:5672,[::1]:5673,c/prod", "amqp://leads:***@a:5672,[::1]:5673,c/prod"),
        ("amqps://leads:hun,ter2@a,b/prod?heartbeat=5", "amqps://leads:***@a,b/prod?heartbeat=5"),
        ("amqp://leads:1/hunter2@a,b/prod", "a URL that cannot be read"),
        ("amqp://leads:hunter2@a,,b/prod", "a URL that cannot be read"),
        ("amqp://leads:hunter2@a,b:port/prod", "a URL that cannot be read"),
    ],
)
def test_urls_are_logged_without_their_password(url: str, shown: str) -> None:
    assert password_free(url) == shown


@pytest.mark.parametrize(
    ("url", "nodes"),
    [
        ("amqp://broker", ["amqp://broker"]),
        (
            "amqp://u:p@a:5672,b,[::1]:5673/v?x=1",
            ["amqp://u:p@a:5672/v?x=1", "amqp://u:p@b/v?x=1", "amqp://u:p@[::1]:5673/v?x=1"],
        ),
        ("amqps://u:p,q@a,b", ["amqps://u:p,q@a", "amqps://u:p,q@b"]),
    ],
)
def test_a_url_names_each_node_of_a_cluster(url: str, nodes: list[str]) -> None:
    assert list(nodes_of(url)) == nodes


async def test_a_node_that_is_away_is_passed_over(rabbit_url: str) -> None:
    url = rabbit_url.replace("@", "@127.0.0.1:1,127.0.0.1:2,")
    for _ in range(5):  # the order differs each time
        async with RabbitBus(url, TOPOLOGY, client_name="test") as bus:
            assert (await bus.stats(TOPOLOGY.queues[0])).dead == 0


async def test_a_cluster_of_which_no_node_answers_is_told_whole_and_without_its_password() -> None:
    bus = RabbitBus("amqp://leads:hunter2@127.0.0.1:1,127.0.0.1:2/prod", TOPOLOGY, client_name="test")
    with pytest.raises(BusUnavailable, match=r"\(amqp://leads:\*\*\*@127.0.0.1:1,127.0.0.1:2/prod\)"):
        await bus.open()
    await bus.close()


@pytest.mark.parametrize(
    "url", ["", "sqlite:///queue.db", "amqp://", "amqp://leads:hunter2@broker:port/", "amqp://leads:hunter2@a,/v"]
)
def test_a_url_that_is_none_of_rabbitmqs_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="LEADS_BROKER_URL") as failure:
        RabbitBus(url, TOPOLOGY, client_name="test")
    assert "hunter2" not in str(failure.value)
