"""What the tests of dashboards and alerts share."""

import pytest

from tests.harness.missing import cannot_run
from tests.harness.prometheus import MISSING, find_prometheus


@pytest.fixture(scope="session", autouse=True)
def _prometheus_is_here() -> None:
    """Without Debian's package: a failure in CI, a skip elsewhere."""
    if not find_prometheus():
        cannot_run(MISSING)
