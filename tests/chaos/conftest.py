"""The rig in each size, and the end of a run: one verdict table for each size, and the figures beside their targets."""

import pytest
import pytest_asyncio

from tests.chaos.broker import Broker
from tests.chaos.rig import SETTINGS, SIZES, Rig
from tests.chaos.verdicts import Verdicts
from tests.harness.sizes import (
    AT_SCALE,
    EMBEDDED,
    EMBEDDED_SENDGRID,
    ON_MARIADB,
    ON_POSTGRESQL,
    PAST_ONE_MACHINE,
    at_scale,
    embedded,
    on_mariadb,
    on_postgresql,
    past_one_machine,
    with_sendgrid,
)

VERDICTS = pytest.StashKey[Verdicts]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[VERDICTS] = Verdicts()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for text in config.stash[VERDICTS].tables():
        terminalreporter.section("chaos", sep="-")
        terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def verdicts(request: pytest.FixtureRequest) -> Verdicts:
    """Where scenarios tell what was found."""
    return request.config.stash[VERDICTS]


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[pytest.param(size, marks=marks) for size, marks in SIZES.items()],
)
async def rig(request, tmp_path_factory, verdicts):
    """A deployment of each size for all scenarios of a file."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == EMBEDDED:
        async with embedded(folder, SETTINGS) as house:
            yield Rig(house, EMBEDDED, verdicts)
    else:
        async with _with_rabbitmq(request, folder) as house:
            yield Rig(house, request.param, verdicts)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory, rabbit_node, verdicts):
    """RabbitMQ with a proxy before it, and the rig of a deployment that is led there."""
    async with Broker.of(rabbit_node, tmp_path_factory.mktemp(AT_SCALE), verdicts) as broker:
        yield broker


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[
        EMBEDDED_SENDGRID,
        pytest.param(AT_SCALE, marks=pytest.mark.rabbitmq),
        pytest.param(ON_POSTGRESQL, marks=[pytest.mark.rabbitmq, pytest.mark.postgresql, pytest.mark.long]),
        pytest.param(ON_MARIADB, marks=[pytest.mark.rabbitmq, pytest.mark.mariadb, pytest.mark.long]),
    ],
)
async def rig_with_sendgrid(request, tmp_path_factory, verdicts):
    """Either bus, and mail through SendGrid: the mailbox refuses nothing, and a second copy is the same file there."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == EMBEDDED_SENDGRID:
        async with with_sendgrid(folder, SETTINGS) as house:
            yield Rig(house, EMBEDDED_SENDGRID, verdicts)
    else:
        async with _with_rabbitmq(request, folder) as house:
            yield Rig(house, request.param, verdicts)


def _with_rabbitmq(request, folder):
    """The deployment of a size that has RabbitMQ."""
    node = request.getfixturevalue("rabbit_node")
    if request.param == AT_SCALE:
        return at_scale(folder, node, SETTINGS)
    if request.param == ON_MARIADB:
        return on_mariadb(folder, request.getfixturevalue("maria"), node, SETTINGS)
    postgres = request.getfixturevalue("postgres")
    if request.param == PAST_ONE_MACHINE:
        return past_one_machine(folder, postgres, node, request.getfixturevalue("s3_server"), SETTINGS)
    return on_postgresql(folder, postgres, node, SETTINGS)
