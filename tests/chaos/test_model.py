"""Whatever is done in whatever order, Leads is what a simple model says: Hypothesis looks for the order that proves not.

`LEADS_CHAOS=long` runs 50 stories of 30 steps in each size. A failure prints the steps that lead to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.chaos.machine import LeadsMachine
from tests.chaos.rig import IS_LONG, SETTINGS
from tests.chaos.system import Systems
from tests.harness.sizes import EMBEDDED, with_sendgrid

STORIES, STEPS = (50, 30) if IS_LONG else (2, 12)
REAL_PROCESSES = settings(
    max_examples=STORIES,
    stateful_step_count=STEPS,
    derandomize=not IS_LONG,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink] if IS_LONG else [Phase.generate],
)


@contextmanager
def systems(tmp_path_factory) -> Iterator[Systems]:
    with start_blocking_portal() as portal:
        made = Systems(portal, lambda: with_sendgrid(tmp_path_factory.mktemp(EMBEDDED), SETTINGS))
        try:
            yield made
        finally:
            made.close()


def machine(of: Systems) -> type[LeadsMachine]:
    return type("Leads", (LeadsMachine,), {"systems": of})


@pytest.mark.timeout(0 if IS_LONG else 120)
def test_leads_is_what_the_model_says_after_every_step(tmp_path_factory):
    with systems(tmp_path_factory) as made:
        run_state_machine_as_test(machine(made), settings=REAL_PROCESSES)
