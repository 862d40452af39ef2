"""Bad inputs: one table, and after every row the invariants of `tests.harness.invariants`.

The rows are in `tests.harness.rows_*`, numbered as in the list of bad inputs (sections A to F; 80 is what else staff
may ask for). They run against real processes: most on one deployment, those that stop or hinder a room on a second,
those about limits and origins on a third. Those that reach a database run on MariaDB once more.

Not here: the full minute of row 8, because a body that only trickles is refused after ten seconds already, and the
clock for the others has its test in `test_upload`; kill -9 between every two steps (row 71), which the chaos tests do;
the thousand of row 45, the five hundred of row 77 and the ten thousand of row 79, of which fewer show the same.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.harness.bad_inputs import Ground, Row, prepared
from tests.harness.deployment import deployed
from tests.harness.missing import cannot_run
from tests.harness.rows_doors import DOORS, LOAD
from tests.harness.rows_failure import FAILURE_ROWS, FULL_DISK_ROWS, REPEATED_ROWS
from tests.harness.rows_file import FILE_ROWS
from tests.harness.rows_form import FIELD_ROWS, MULTIPART_ROWS
from tests.harness.rows_limits import LIMIT_ROWS, ORIGIN, PROXY
from tests.harness.rows_staff import STAFF_ROWS
from tests.harness.rows_transport import FRAMING
from tests.harness.sizes import databases_in
from tests.harness.tiny_disk import tiny_disks

pytestmark = pytest.mark.asyncio(loop_scope="module")


@asynccontextmanager
async def plain(folder: Path, _request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    """As anybody runs it, but without rate limits."""
    async with deployed(folder, {"TMPDIR": str(folder / "tmp")}) as deployment, prepared(deployment) as found:
        yield found


@asynccontextmanager
async def mariadb(folder: Path, request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    """The same, with the rows of api and notifier in MariaDB."""
    with databases_in(request.getfixturevalue("maria")) as urls:
        settings = {"TMPDIR": str(folder / "tmp"), **urls}
        async with deployed(folder, settings) as deployment, prepared(deployment) as found:
            yield found


@asynccontextmanager
async def hindered(folder: Path, _request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    """Rooms may fall over here: retries come soon, orphans are swept soon, and the disks are tiny where possible."""
    settings = {
        "LEADS_RETRY_DELAYS_SECONDS": "[1, 1, 1, 1, 1]",
        "LEADS_ORPHAN_GRACE_SECONDS": "2",
        "LEADS_SWEEP_INTERVAL_SECONDS": "1",
        "LEADS_STORAGE_MIN_FREE_BYTES": "0",
    }
    data = folder / "data"
    with tiny_disks([data / "resumes", data / "leads.db.disk"]) as trouble:
        if not trouble:
            (data / "leads.db").symlink_to(data / "leads.db.disk" / "leads.db")
        async with deployed(folder, settings) as deployment, prepared(deployment) as found:
            found.no_tiny_disk = trouble
            yield found


@asynccontextmanager
async def limited(folder: Path, _request: pytest.FixtureRequest) -> AsyncIterator[Ground]:
    """With the rate limits that a deployment has by default, behind a proxy that it trusts, open to one origin."""
    settings = {
        "LEADS_INTAKE_RATE": "60/minute",
        "LEADS_LOGIN_RATE": "10/minute",
        "LEADS_TRUSTED_PROXIES": PROXY,
        "LEADS_ALLOWED_ORIGINS": ORIGIN,
    }
    async with deployed(folder, settings) as deployment, prepared(deployment, rested=False) as found:
        yield found


GROUNDS: dict[str, Callable[[Path, pytest.FixtureRequest], AbstractAsyncContextManager[Ground]]] = {
    "plain": plain,
    "hindered": hindered,
    "limited": limited,
    "mariadb": mariadb,
}
TABLE: dict[str, Sequence[Row]] = {
    "plain": [*FRAMING, *DOORS, *MULTIPART_ROWS, *FIELD_ROWS, *FILE_ROWS, *STAFF_ROWS, *LOAD],
    "hindered": [*REPEATED_ROWS, *FAILURE_ROWS, *FULL_DISK_ROWS],
    "limited": LIMIT_ROWS,
    "mariadb": [*MULTIPART_ROWS, *FIELD_ROWS, *FILE_ROWS, *STAFF_ROWS],
}
PATIENT = frozenset({"200-uploads-of-5-MiB", "500-slow-headers-and-8-200-slow-bodies", "storage-asleep"})
"""They send a lot, or wait for deadlines of the product to run out, some ten seconds each."""


def _marks(name: str, row: Row) -> list[pytest.MarkDecorator]:
    if name == "mariadb":
        return [pytest.mark.mariadb, pytest.mark.long]
    return [pytest.mark.long] if row.name in PATIENT else []


ROWS = [
    pytest.param(name, row, id=f"{row}-on-mariadb" if name == "mariadb" else str(row), marks=_marks(name, row))
    for name, rows in TABLE.items()
    for row in rows
]


class Grounds:
    """One ground at a time, made when its first row comes."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self._folder = folder
        self._request = request
        self._name = ""
        self._open = AsyncExitStack()
        self._ground: Ground | None = None

    async def at(self, name: str) -> Ground:
        """The ground of that name; the one before is closed."""
        if self._ground is None or self._name != name:
            await self.close()
            (self._folder / name / "tmp").mkdir(parents=True)
            self._ground = await self._open.enter_async_context(GROUNDS[name](self._folder / name, self._request))
            self._name = name
        return self._ground

    async def close(self) -> None:
        """Look at the open ground a last time, and end its rooms."""
        self._ground = None
        await self._open.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def grounds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Grounds]:
    made = Grounds(tmp_path_factory.mktemp("bad-inputs"), request)
    yield made
    await made.close()


@pytest.mark.parametrize(("name", "row"), ROWS)
async def test_a_bad_input_gets_its_answer_and_leaves_no_trace(grounds: Grounds, name: str, row: Row) -> None:
    ground = await grounds.at(name)
    if row.on_tiny_disk and ground.no_tiny_disk:
        cannot_run(ground.no_tiny_disk)
    await ground.try_out(row)
