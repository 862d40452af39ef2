"""Three private RabbitMQ nodes that are one cluster, as `tests/harness/rabbitmq.py` makes one.

A node that finds itself without a majority pauses (`pause_minority`), as docs/scaling.md asks of real ones. Rules:
https://www.rabbitmq.com/docs/clustering and /docs/partitions.
"""

import secrets
import subprocess
import time
from pathlib import Path

from tests.harness.rabbitmq import Family, RabbitNode, free_ports

NODES = 3
_END_SECONDS = 15.0
_WHOLE_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.2


class RabbitCluster:
    """What one does with a `RabbitNode`, done with three. Users and virtual hosts are those of the first node.

    Raises `RuntimeError` with `MISSING` when the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        family = Family(secrets.token_hex(16), free_ports(1)[0])
        folders = [folder / f"node-{number}" for number in range(1, NODES + 1)]
        for one in folders:
            one.mkdir(parents=True)
        self.nodes = [RabbitNode(one, family=family) for one in folders]
        self._epmd_port = family.epmd_port
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether every node's process is there."""
        return all(node.running for node in self.nodes)

    def url(self, vhost: str, *, port: int | None = None) -> str:
        """`LEADS_BROKER_URL` that names all nodes; `port` leads to a proxy before the first."""
        first, *others = self.nodes
        login_and_host, _, path = first.url(vhost, port=port).rpartition("/")
        return ",".join([login_and_host, *(f"127.0.0.1:{node.port}" for node in others)]) + f"/{path}"

    def start(self) -> None:
        """At the first time, makes one cluster of them; later, starts what is down. Returns when all take connections.

        Raises `RuntimeError`.
        """
        if self._epmd is not None:
            for node in self.nodes:
                node.start()
            return
        self._epmd = subprocess.Popen(["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)])
        first, *others = self.nodes
        first.start()
        for node in others:
            node.start()
            node.evaluate(
                f"ok = rabbit:stop(), ok = rabbit_mnesia:join_cluster('{first.name}', disc), ok = rabbit:start()."
            )

    def stop(self) -> None:
        """Ends the nodes and their port mapper, and nothing else."""
        for node in self.nodes:
            node.stop()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(_END_SECONDS)

    def add_vhost(self, name: str) -> None:
        """As `RabbitNode.add_vhost`; all nodes know of it."""
        self.nodes[0].add_vhost(name)

    def delete_vhost(self, name: str) -> None:
        """As `RabbitNode.delete_vhost`."""
        self.nodes[0].delete_vhost(name)

    def members(self, vhost: str, queue: str) -> int:
        """On how many nodes the quorum queue has a copy."""
        found = self.nodes[0].evaluate(
            f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, <<"{queue}">>)),'
            " length(maps:get(nodes, amqqueue:get_type_state(Q)))."
        )
        return int(found)

    def wait_until_whole(self) -> None:
        """Until no queue would lose its majority with any one node: `check_if_node_is_quorum_critical` asks the same.

        Raises `RuntimeError`.
        """
        deadline = time.monotonic() + _WHOLE_SECONDS
        while time.monotonic() < deadline:
            if all(self._is_dispensable(node) for node in self.nodes):
                return
            time.sleep(_LOOK_AGAIN_SECONDS)
        raise RuntimeError(f"the cluster is not whole {_WHOLE_SECONDS:.0f} s after its nodes are up")

    def _is_dispensable(self, node: RabbitNode) -> bool:
        try:
            return node.evaluate("rabbit_quorum_queue:list_with_minimum_quorum().") == "[]"
        except RuntimeError:
            return False
