"""The least that a user at RabbitMQ must be allowed, by what it does with a topology.

Which operation asks for which permission: https://www.rabbitmq.com/docs/access-control#authorisation. Copies to retry
levels and dead letters, and what a level gives back, go by the default exchange, there called `amq.default`.
"""

import re
import shlex
from dataclasses import dataclass

from shared.topology import Topology

NONE = "^$"


@dataclass(frozen=True)
class Permissions:
    """Three regular expressions over names of exchanges and queues."""

    configure: str
    write: str
    read: str

    def command(self, user: str, vhost: str) -> str:
        """What gives them, and takes all others of this user in this virtual host."""
        given = (vhost, user, self.configure, self.write, self.read)
        return "rabbitmqctl set_permissions -p " + " ".join(shlex.quote(one) for one in given)


def to_publish(topology: Topology) -> Permissions:
    """To publish to what others have declared, and to read their notes of what they declared anew."""
    notes = _any_of(*(re.escape(queue.renewals) for queue in topology.queues))
    return Permissions(NONE, _any_of(re.escape(topology.exchange)), notes)


def to_consume(topology: Topology) -> Permissions:
    """To declare all, to consume, and to move what failed."""
    exchange = re.escape(topology.exchange)
    queues = [re.escape(queue.name) for queue in topology.queues]
    return Permissions(
        configure=_any_of(exchange, *(rf"{queue}(\..*)?" for queue in queues)),
        write=_any_of(*queues, r"amq\.default"),
        read=_any_of(exchange, *(rf"{queue}(\.retry\..*)?" for queue in queues)),
    )


def to_mend(topology: Topology) -> Permissions:
    """To look at dead letters, to put them back to work, and to drop them."""
    dead = _any_of(*(re.escape(queue.dead_letters) for queue in topology.queues))
    return Permissions(NONE, _any_of(r"amq\.default"), dead)


def to_do_all(topology: Topology) -> Permissions:
    """For one user that publishes, consumes, and looks at dead letters."""
    exchange = re.escape(topology.exchange)
    everything = _any_of(exchange, *(rf"{re.escape(queue.name)}(\..*)?" for queue in topology.queues))
    write = _any_of(exchange, *(re.escape(queue.name) for queue in topology.queues), r"amq\.default")
    return Permissions(everything, write, everything)


def _any_of(*patterns: str) -> str:
    return f"^({'|'.join(patterns)})$" if len(patterns) > 1 else f"^{patterns[0]}$"
