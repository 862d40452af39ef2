"""Bad inputs, one table."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.harness.bad_inputs import Ground, Row, ground
from tests.harness.deployment import deployed
from tests.harness.rows_doors import DOORS, LOAD
from tests.harness.rows_form import FIELD_ROWS, MULTIPART_ROWS
from tests.harness.rows_transport import FRAMING


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def main_ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    folder = tmp_path_factory.mktemp("bad-inputs") / "deployment"
    (folder / "tmp").mkdir(parents=True)
    async with deployed(folder, {"TMPDIR": str(folder / "tmp")}) as deployment, ground(deployment) as found:
        yield found


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("row", [*FRAMING, *DOORS, *MULTIPART_ROWS, *FIELD_ROWS, *LOAD], ids=str)
async def test_a_bad_input_gets_its_answer_and_leaves_no_trace(main_ground: Ground, row: Row) -> None:
    await main_ground.try_out(row)
