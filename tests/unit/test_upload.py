"""How long an upload may take, and whose place it holds meanwhile."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.requests import Request
from starlette.types import Message

from services.api import places, upload
from services.api.multipart import UploadRules
from services.api.places import Place, Places
from services.api.resumes import ResumeKind
from services.api.upload import Upload
from shared.problems import Problem, ProblemType
from tests.harness.raw_http import BOUNDARY, Part, form

RULES = UploadRules(100_000, frozenset({ResumeKind.PDF}))
RESUME = b"%PDF-1.4" + bytes(8000)
BODY = form(
    [
        Part("first_name", b"Ann"),
        Part("last_name", b"Lee"),
        Part("email", b"ann@people.test"),
        Part("resume", RESUME, "cv.pdf"),
    ]
)


class Sender:
    """A client that waits so many seconds before each piece; after the last it says nothing more."""

    def __init__(self, pieces: Sequence[bytes], wait_seconds: float, *, ends: bool = True) -> None:
        self._pieces = list(pieces)
        self._wait_seconds = wait_seconds
        self._ends = ends

    async def receive(self) -> Message:
        await asyncio.sleep(self._wait_seconds)
        if not self._pieces:
            await asyncio.Event().wait()
        piece = self._pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or not self._ends}


def upload_of(sender: Sender) -> Upload:
    headers = [(b"content-type", f"multipart/form-data; boundary={BOUNDARY}".encode())]
    scope = {"type": "http", "method": "POST", "headers": headers, "state": {}}
    return Upload(Request(scope, sender.receive), RULES)


async def take_in(one: Upload, place: Place | None = None) -> bytes:
    await one.start(place or Place(asyncio.Semaphore()))
    return b"".join([chunk async for chunk in one.resume_chunks()])


def cut(piece_bytes: int) -> list[bytes]:
    return [BODY[at : at + piece_bytes] for at in range(0, len(BODY), piece_bytes)]


@pytest.fixture(autouse=True)
def quick_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tenths of seconds instead of tens: 0.1 s to start, then 40,000 bytes a second, and 0.5 s in all."""
    monkeypatch.setattr(upload, "START_SECONDS", 0.1)
    monkeypatch.setattr(upload, "SLOWEST_BYTES_PER_SECOND", 40_000)
    monkeypatch.setattr(upload, "BODY_DEADLINE_SECONDS", 0.5)
    monkeypatch.setattr(places, "WAIT_FOR_PLACE_SECONDS", 0.2)
    monkeypatch.setattr(places, "KEPT_WAITING_SECONDS", 0.02)


async def test_an_upload_that_keeps_moving_is_taken_in() -> None:
    assert await take_in(upload_of(Sender(cut(2000), 0.02))) == RESUME


async def test_bytes_that_came_buy_time() -> None:
    sender = Sender([BODY[:-100], BODY[-100:]], 0.08)
    assert await take_in(upload_of(sender)) == RESUME


async def test_a_trickle_is_refused_when_the_start_is_over() -> None:
    began_at = asyncio.get_running_loop().time()
    with pytest.raises(Problem) as refused:
        await take_in(upload_of(Sender(cut(1), 0.01)))
    assert refused.value.type is ProblemType.REQUEST_TIMEOUT
    assert refused.value.headers["Connection"] == "close"
    assert asyncio.get_running_loop().time() - began_at < 0.4


async def test_no_pace_lasts_beyond_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "SLOWEST_BYTES_PER_SECOND", 1)
    with pytest.raises(Problem) as refused:
        await take_in(upload_of(Sender([BODY[:-100]], 0.0, ends=False)))
    assert refused.value.type is ProblemType.REQUEST_TIMEOUT


async def test_whoever_waits_for_its_sender_lends_its_place() -> None:
    waiting = Places(1)
    sender = Sender([BODY[:-100], BODY[-100:]], 0.08)
    async with waiting.place() as first:
        slow = asyncio.create_task(take_in(upload_of(sender), first))
        await asyncio.sleep(0.05)
        async with waiting.place() as second:
            assert await take_in(upload_of(Sender([BODY], 0.0)), second) == RESUME
        assert await slow == RESUME


async def test_whoever_moves_keeps_its_place_and_others_are_told_to_come_again() -> None:
    few = Places(1)
    async with few.place():
        with pytest.raises(Problem) as refused:
            async with few.place():
                pass
    assert refused.value.type is ProblemType.UNAVAILABLE
    assert refused.value.headers["Retry-After"] == str(places.RETRY_AFTER_SECONDS)
    async with few.place():
        pass


async def test_uploads_are_bounded_however_slow_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "OPEN_PER_PLACE", 2)
    few = Places(1)
    async with few.place() as first:
        first.leave()
        async with few.place() as second:
            second.leave()
            with pytest.raises(Problem) as refused:
                async with few.place():
                    pass
    assert refused.value.type is ProblemType.UNAVAILABLE
