"""Who waits for its sender lends its place to others, and waits no longer than it may."""

import asyncio
from contextlib import suppress

import pytest

from services.api.places import KEPT_WAITING_SECONDS, Place, Places


@pytest.fixture
async def place():
    async with Places(1).place() as place:
        yield place


async def said(text: str, after_seconds: float = 0.0) -> str:
    if after_seconds:
        await asyncio.sleep(after_seconds)
    return text


def in_seconds(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_what_is_here_is_taken_however_late_it_is(place: Place):
    assert await place.lent(said("here"), in_seconds(-10)) == "here"


@pytest.mark.parametrize("left_seconds", [-10, KEPT_WAITING_SECONDS / 2, 2 * KEPT_WAITING_SECONDS])
async def test_what_does_not_come_is_waited_for_until_the_deadline(place: Place, left_seconds: float):
    began_at = in_seconds(0)
    with pytest.raises(TimeoutError):
        await place.lent(said("too late", 5), in_seconds(left_seconds))
    assert in_seconds(0) - began_at < 2


async def test_a_trickle_does_not_move_the_deadline(place: Place):
    """Each drop comes before the place would be left."""
    deadline, drops = in_seconds(0.3), 0
    with suppress(TimeoutError):
        while drops < 100:
            await place.lent(said("a drop", KEPT_WAITING_SECONDS / 3), deadline)
            drops += 1
    assert 0 < drops < 12


async def test_a_quick_sender_does_not_lose_its_place_and_a_slow_one_lends_it():
    places, others = Places(1), []

    async def other() -> None:
        async with places.place():
            others.append("was in")

    async with places.place() as place:
        waiting = asyncio.create_task(other())
        await place.lent(said("soon", KEPT_WAITING_SECONDS / 5), in_seconds(5))
        assert others == []
        await place.lent(said("later", 3 * KEPT_WAITING_SECONDS), in_seconds(5))
        assert others == ["was in"]
    await waiting


async def test_whoever_is_cut_off_leaves_its_place():
    places = Places(1)
    with pytest.raises(TimeoutError):
        async with places.place() as place:
            await place.lent(said("too late", 5), in_seconds(0.01))
    async with asyncio.timeout(1), places.place() as place:
        assert await place.lent(said("here"), in_seconds(1)) == "here"
