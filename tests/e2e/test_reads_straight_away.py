"""What staff ask for most is answered past the framework's way: every answer is the one that the framework gives.

Two apis on the same data, one of which has no short cuts.
"""

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.harness.client import Answer, Client
from tests.harness.deployment import ADMIN, PASSWORD, deployed
from tests.harness.files import pdf

pytestmark = pytest.mark.asyncio(loop_scope="module")

RESUME_BYTES = (3_000, 300_000, 900_000, 3_000, 3_000)
LEADS = len(RESUME_BYTES)
WITHOUT_SHORT_CUTS = """
import runpy
from shared import direct
async def framework(self, scope, receive, send):
    await self._app(scope, receive, send)
direct._Direct.__call__ = framework
runpy.run_module("services.api", run_name="__main__")
"""
WITHOUT_FRAMEWORK = """
import runpy
from fastapi.routing import APIRoute
handle = APIRoute.handle
async def broken(self, scope, receive, send):
    assert not scope["path"].startswith("/leads")
    await handle(self, scope, receive, send)
APIRoute.handle = broken
runpy.run_module("services.api", run_name="__main__")
"""
OF_EACH_ANSWER = {"X-Correlation-ID", "Date"}


@dataclass(frozen=True)
class Both:
    """The api with short cuts, the one without, one with nothing else, and a lead that they know."""

    straight: Client
    framework: Client
    alone: Client
    """The one whose framework answers for no lead."""
    lead_id: str

    async def ask(self, method: str, path: str, headers: dict[str, str] | None = None) -> tuple[Answer, Answer]:
        path = path.replace("LEAD", self.lead_id)
        first, second = [await one.call(method, path, headers=headers or {}) for one in (self.straight, self.framework)]
        return first, second


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Both]:
    folder: Path = tmp_path_factory.mktemp("straight")
    async with deployed(folder) as leads:
        others = [leads.add("api"), leads.add("api")]
        for other, script in zip(others, (WITHOUT_SHORT_CUTS, WITHOUT_FRAMEWORK), strict=True):
            leads.launch(other, [sys.executable, "-c", script])
            await leads.ready(other)
        urls = [leads.url(name) for name in ("api", *others)]
        async with Client(urls[0]) as straight, Client(urls[1]) as framework, Client(urls[2]) as alone:
            for number in range(LEADS):
                lead = await straight.post_lead(
                    f"lead{number}@example.com", pdf(RESUME_BYTES[number]), first_name=f"Ann {number} é"
                )
            await straight.login(ADMIN, PASSWORD)
            framework.token = alone.token = straight.token
            yield Both(straight, framework, alone, lead.json["id"])


def told(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in answer.headers.items() if name not in OF_EACH_ANSWER}
    return answer.status, {name.lower(): value for name, value in headers.items()}, answer.body


LISTS = [
    "",
    "?limit=2",
    "?limit=2&sort=email",
    "?limit=2&sort=-last_name&total=true",
    "?state=PENDING&q=ann%204",
    "?state=REACHED_OUT",
    "?email=LEAD1@example.com",
    "?created_after=2020-01-01T00:00:00%2B02:00&created_before=2100-01-01T00:00:00Z",
    "?created_after=2020-01-01",
    "?limit=0",
    "?limit=two",
    "?limit=2&limit=3",
    "?limit=",
    "?state=",
    "?state=pending",
    "?q=",
    "?q=%00",
    "?q=%ff",
    "?total=yes",
    "?total=maybe",
    "?sort=shoe_size",
    "?cursor=nonsense",
    "?cursor=",
    "?limit=2&cursor=",
    "?resume=python",
    "?page=2",
    "?page=2&limit=1",
    "?&&limit=1",
    "?limit=1;sort=email",
]


@pytest.mark.parametrize("rest", ["", "&sort=email"])
async def test_an_empty_cursor_is_that_of_the_first_page(both: Both, rest: str):
    (empty, _), (none, _) = [await both.ask("GET", f"/leads?limit=2{rest}{cursor}") for cursor in ("&cursor=", "")]
    assert empty.status == 200
    assert empty.json == none.json


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("query", LISTS)
async def test_a_page_is_the_same(both: Both, method: str, query: str):
    straight, framework = await both.ask(method, f"/leads{query}")
    assert told(straight) == told(framework)


async def test_the_next_pages_are_the_same(both: Both):
    path, seen = "/leads?limit=2", 0
    while path:
        straight, framework = await both.ask("GET", path)
        assert told(straight) == told(framework)
        seen += len(straight.json["items"])
        path = straight.headers.get("Link", "").partition("<")[2].partition(">")[0]
    assert seen == LEADS


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/leads/LEAD/resume", "/leads/nobody/resume", "/leads/LEAD/resume/", "/leads/"])
@pytest.mark.parametrize(
    "range_", [None, "bytes=0-9", "bytes=-5", "bytes=2990-", "bytes=9000000-", "bytes=0-1,3-4", "lines=1-2"]
)
async def test_a_resume_is_the_same(both: Both, method: str, path: str, range_: str | None):
    straight, framework = await both.ask(method, path, {"Range": range_} if range_ else {})
    assert told(straight) == told(framework)


async def test_long_resumes_are_the_same(both: Both):
    for lead in (await both.straight.call("GET", "/leads")).json["items"]:
        for headers in ({}, {"Range": "bytes=1000-299999"}):
            straight, framework = await both.ask("GET", f"/leads/{lead['id']}/resume", headers)
            assert told(straight) == told(framework)
        assert len((await both.straight.call("GET", f"/leads/{lead['id']}/resume")).body) == lead["resume"]["size"]


@pytest.mark.parametrize("path", ["/leads", "/leads?limit=0", "/leads?limit=1&limit=1", "/leads/LEAD/resume"])
@pytest.mark.parametrize(
    "scheme", ["bearer {}", "BEARER {}", "Bearer  {}", "Bearer", "Basic {}", "{}", "", "Bearer {}x"]
)
async def test_who_is_let_in_is_the_same(both: Both, path: str, scheme: str):
    straight, framework = await both.ask("GET", path, {"Authorization": scheme.format(*[both.straight.token] * 2)})
    assert told(straight) == told(framework)


@pytest.mark.parametrize("path", ["/leads", "/leads?state=PENDING&limit=2", "/leads/{}/resume"])
async def test_what_is_asked_in_the_usual_form_does_not_go_the_framework_s_way(both: Both, path: str):
    assert (await both.alone.call("GET", path.format(both.lead_id))).status == 200
    assert (await both.alone.call("GET", "/leads?limit=1&limit=1")).status == 500


async def test_a_lead_that_has_moved_is_seen_at_once(both: Both):
    moved = await both.straight.call("PATCH", f"/leads/{both.lead_id}", json={"state": "REACHED_OUT"})
    assert moved.status == 200
    straight, framework = await both.ask("GET", "/leads?state=REACHED_OUT")
    assert told(straight) == told(framework)
    assert [lead["id"] for lead in straight.json["items"]] == [both.lead_id]
