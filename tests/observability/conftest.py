"""What the tests of dashboards and alerts share."""

import os

import pytest

from tests.harness.prometheus import MISSING, find_prometheus


@pytest.fixture(scope="session", autouse=True)
def _prometheus_is_here() -> None:
    """Without Debian's package: a failure in CI, a skip elsewhere."""
    if not find_prometheus():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(MISSING)
