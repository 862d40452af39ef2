"""A topology of one queue, for tests of what a bus does in trouble."""

from shared.topology import Queue, Topology
from tests.harness.bus_steps import HAPPENED

DELAY_SECONDS = 0.2
WORK = Queue("work", (HAPPENED,), (DELAY_SECONDS,))
TOPOLOGY = Topology(queues=(WORK,))
