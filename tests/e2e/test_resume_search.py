"""Staff find leads by the words of their resumes, soon after these came, whatever else came with them."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from tests.harness.client import Client
from tests.harness.deployment import ADMIN, PASSWORD, Deployment
from tests.harness.files import pdf, rtf
from tests.harness.kept import rows
from tests.harness.resumes import docx_saying, pdf_saying
from tests.harness.sizes import EMBEDDED, PAST_ONE_MACHINE, House, embedded, past_one_machine

pytestmark = pytest.mark.asyncio(loop_scope="module")

SETTINGS = {"LEADS_RESUME_SEARCH": "true", "LEADS_RESUME_KINDS": "pdf,docx,rtf"}
PATIENCE_SECONDS = 30.0


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    params=[
        EMBEDDED,
        pytest.param(PAST_ONE_MACHINE, marks=[pytest.mark.rabbitmq, pytest.mark.postgresql, pytest.mark.long]),
    ],
)
async def house(request, tmp_path_factory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == EMBEDDED:
        async with embedded(folder, SETTINGS) as house:
            yield house
        return
    servers = [request.getfixturevalue(name) for name in ("postgres", "rabbit_node", "s3_server")]
    async with past_one_machine(folder, *servers, SETTINGS) as house:
        yield house


@pytest_asyncio.fixture(loop_scope="module")
async def client(house: House) -> AsyncIterator[Client]:
    async with Client(house.deployment.api_url) as client:
        assert (await client.login(ADMIN, PASSWORD)).status == 200
        yield client


async def sent(client: Client, name: str, resume: bytes, filename: str = "cv.pdf") -> str:
    """The id of a lead with that resume."""
    answer = await client.post_lead(f"{name}@search.example.com", resume, filename=filename)
    assert answer.status == 201, answer.json
    return str(answer.json["id"])


async def found(client: Client, words: str, **more: str) -> list[str]:
    answer = await client.call("GET", "/leads", params={"resume": words, **more})
    assert answer.status == 200, answer.json
    return [lead["id"] for lead in answer.json["items"]]


async def read_one(client: Client, word: str) -> str:
    """The id of a lead whose resume says that word, once it is found by it."""
    lead_id = await sent(client, word, pdf_saying(word))
    await until_found(client, word, [lead_id])
    return lead_id


async def until_found(client: Client, words: str, ids: list[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while await found(client, words) != ids:
        assert time.monotonic() < deadline, await found(client, words)
        await asyncio.sleep(0.1)


def readers(deployment: Deployment, room: str = "api") -> list[psutil.Process]:
    """The programs that read resumes for that api."""
    return psutil.Process(deployment.processes[room].pid).children()


async def test_a_lead_is_found_by_words_of_its_resume(house: House, client: Client):
    ann = await sent(client, "ann", pdf_saying("Ann Lee, Kubernetes", "Résumé, page two"))
    bob = await sent(client, "bob", docx_saying("Bob: Kubernetes und Übersetzung"), "cv.docx")
    await until_found(client, "kubernetes", [bob, ann])
    assert await found(client, "KUBERNETES resume two") == [ann]
    assert await found(client, "übersetzung") == [bob]
    assert await found(client, "kubernetes", sort="created_at", limit="1") == [ann]
    assert await found(client, "kubernetes", q="bob@") == [bob]
    assert await found(client, "kubernetes cobol") == []
    (reader,) = readers(house.deployment)
    assert reader.nice() == 19


async def test_what_cannot_be_read_is_a_lead_as_any_and_holds_up_nobody(house: House, client: Client):
    picture = await sent(client, "picture", pdf(3000))
    cut = await sent(client, "cut", pdf_saying("cut short")[:200] + b"%%EOF")
    foreign = await sent(client, "foreign", rtf(), "cv.rtf")
    after = await sent(client, "after", pdf_saying("Erlang"))
    await until_found(client, "erlang", [after])
    outcomes = dict(rows(house.deployment.leads_db, "SELECT lead_id, outcome FROM resume_texts"))
    assert [outcomes[one] for one in (picture, cut, foreign)] == ["empty", "unreadable", "unreadable"]
    assert (await client.call("GET", f"/leads/{foreign}")).status == 200


@pytest.mark.long
async def test_an_api_that_is_killed_leaves_no_reader_and_goes_on_where_it_was(house: House, client: Client):
    before = await read_one(client, "fortran")
    (reader,) = readers(house.deployment)
    house.deployment.kill("api")
    gone, alive = await asyncio.to_thread(psutil.wait_procs, [reader], 10)
    assert (gone, alive) == ([reader], [])
    await house.deployment.restart("api")
    since = await read_one(client, "haskell")
    assert await found(client, "fortran") == [before]
    assert await found(client, "haskell") == [since]


@pytest.mark.long
async def test_a_storage_that_dies_meanwhile_costs_no_word(house: House, client: Client):
    one = await sent(client, "storage-away", pdf_saying("Prolog"))
    house.deployment.kill("storage")
    await house.deployment.restart("storage")
    await until_found(client, "prolog", [one])


@pytest.mark.long
async def test_no_word_of_a_resume_is_in_a_log(house: House, client: Client):
    await read_one(client, "xylophonist")
    assert "xylophonist" not in house.deployment.log_file("api").read_text().lower()


@pytest.mark.long
async def test_an_api_told_to_stop_ends_its_reader(house: House, client: Client):
    await read_one(client, "smalltalk")
    (reader,) = readers(house.deployment)
    assert await house.deployment.stop("api") == 0
    assert not reader.is_running()
    await house.deployment.restart("api")


@pytest.mark.long
async def test_where_it_is_not_offered_the_question_is_refused_and_nothing_is_read(tmp_path: Path):
    async with embedded(tmp_path) as house, Client(house.deployment.api_url) as client:
        await client.login(ADMIN, PASSWORD)
        await sent(client, "ann", pdf_saying("Kubernetes"))
        answer = await client.call("GET", "/leads", params={"resume": "kubernetes"})
        assert (answer.status, answer.json["errors"][0]["field"]) == (422, "resume")
        assert readers(house.deployment) == []
