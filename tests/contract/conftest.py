"""Programs of others that tests need, as fixtures: where one is not installed, a failure in CI, a skip elsewhere."""

import pytest

from tests.harness.contract_tools import MISSING, client_generator_is_here, node_is_here
from tests.harness.missing import cannot_run


def _need(is_here: bool) -> None:  # noqa: FBT001
    if not is_here:
        cannot_run(MISSING)


@pytest.fixture(scope="session")
def node_tools() -> None:
    _need(node_is_here())


@pytest.fixture(scope="session")
def client_generator() -> None:
    _need(client_generator_is_here())
