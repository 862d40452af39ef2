"""Whatever is done in whatever order, Leads is what a simple model says: Hypothesis looks for a story that proves not.

The model is tested, too: against systems that were broken on purpose, Hypothesis must find the fault. A failure prints
the steps that lead to it. `LEADS_CHAOS=long` runs 60 stories of 30 steps in each size.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import invariant, run_state_machine_as_test

from tests.chaos.machine import LeadsMachine
from tests.chaos.rig import IS_LONG, SETTINGS
from tests.chaos.system import System, Systems
from tests.harness.sizes import AT_SCALE, EMBEDDED, at_scale, with_sendgrid

STORY = settings(
    derandomize=not IS_LONG,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, *([Phase.shrink] if IS_LONG else [])],
)
SHORT = settings(STORY, max_examples=3, stateful_step_count=10)
FULL = settings(STORY, max_examples=60 if IS_LONG else 12, stateful_step_count=30 if IS_LONG else 20)
HUNT = settings(STORY, max_examples=20, stateful_step_count=10, phases=[Phase.generate])

NO_TIMEOUT = pytest.mark.timeout(0 if IS_LONG else 600)


@pytest.fixture(params=[EMBEDDED])
def systems(request, tmp_path_factory) -> Iterator[Systems]:
    open_house = with_sendgrid
    if request.param == AT_SCALE:
        open_house = partial(at_scale, node=request.getfixturevalue("rabbit_node"))
    with start_blocking_portal() as portal:
        made = Systems(portal, lambda: open_house(tmp_path_factory.mktemp(request.param), settings=SETTINGS))
        try:
            yield made
        finally:
            made.close()


def run(systems: Systems, how: settings, machine: type[LeadsMachine] = LeadsMachine) -> None:
    run_state_machine_as_test(type("Leads", (machine,), {"systems": systems}), settings=how)


def test_leads_is_what_the_model_says_after_every_step(systems):
    run(systems, SHORT)


@pytest.mark.long
@NO_TIMEOUT
@pytest.mark.parametrize("systems", [EMBEDDED, pytest.param(AT_SCALE, marks=pytest.mark.rabbitmq)], indirect=True)
def test_leads_is_what_the_model_says_in_longer_stories(systems):
    run(systems, FULL)


def by_trigger(database: str, trigger: str) -> Callable[[System], None]:
    """A fault inside of the running system: its own database does what it should not."""

    def plant(system: System) -> None:
        with closing(sqlite3.connect(system.deployment.data / database, timeout=10)) as connection, connection:
            connection.execute(f"CREATE TRIGGER IF NOT EXISTS fault {trigger}")

    return plant


def delete_a_resume(system: System) -> None:
    for row in system.rows()[-1:]:
        system.blob(row).unlink(missing_ok=True)


def flip_a_bit(system: System) -> None:
    for row in system.rows()[-1:]:
        stored = system.blob(row).read_bytes()
        system.blob(row).write_bytes(stored[:-1] + bytes([stored[-1] ^ 1]))


def send_a_mail_twice(system: System) -> None:
    assert system.house.sendgrid is not None
    system.house.sendgrid.received += system.house.sendgrid.received[-1:]


FAULTS = {
    "a lead is acknowledged and dropped": by_trigger(
        "leads.db", "AFTER INSERT ON leads BEGIN DELETE FROM leads WHERE id = new.id; END"
    ),
    "a resume is deleted": delete_a_resume,
    "a resume decays": flip_a_bit,
    "a key is forgotten": by_trigger(
        "leads.db", "AFTER INSERT ON idempotency_keys BEGIN DELETE FROM idempotency_keys; END"
    ),
    "a move is forgotten": by_trigger(
        "leads.db",
        "AFTER UPDATE OF state ON leads WHEN new.state = 'REACHED_OUT'"
        " BEGIN UPDATE leads SET state = 'PENDING', version = old.version WHERE id = new.id; END",
    ),
    "an event is dropped": by_trigger(
        "leads.db", "AFTER INSERT ON outbox BEGIN DELETE FROM outbox WHERE id = new.id; END"
    ),
    "an e-mail is said to be sent": by_trigger(
        "notifier.db", "AFTER INSERT ON emails BEGIN UPDATE emails SET state = 'sent' WHERE id = new.id; END"
    ),
    "an e-mail is sent twice": send_a_mail_twice,
}


@pytest.mark.long
@NO_TIMEOUT
@pytest.mark.parametrize("fault", FAULTS)
def test_the_model_finds(systems, fault: str):
    class Broken(LeadsMachine):
        patience_seconds = 3.0

        def __init__(self) -> None:
            super().__init__()
            FAULTS[fault](self.system)

        @invariant()
        def a_fault_is_there(self) -> None:
            FAULTS[fault](self.system)

    with pytest.raises(AssertionError) as found:
        run(systems, HUNT, Broken)
    told = "\n".join(found.value.__notes__)
    assert "state = Leads()\nstate.first_lead()\n" in told
