"""Goodbyes to RabbitMQ: one that is not answered is the last one waited for, until RabbitMQ lets us in again."""

import asyncio
import time

import pytest

from shared.bus.rabbitmq import closing
from shared.bus.rabbitmq.closing import Goodbyes


@pytest.fixture(autouse=True)
def short_patience(monkeypatch):
    monkeypatch.setattr(closing, "CLOSE_SECONDS", 0.1)


def unanswered() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


async def waited_seconds(goodbyes: Goodbyes) -> float:
    began_at = time.monotonic()
    assert not await goodbyes.is_answered(unanswered())
    return time.monotonic() - began_at


async def test_any_number_that_are_not_answered_take_the_time_of_one():
    goodbyes = Goodbyes()
    assert await waited_seconds(goodbyes) >= 0.1
    assert sum([await waited_seconds(goodbyes) for _ in range(20)]) < 0.1


async def test_who_lets_us_in_again_is_waited_for_again():
    goodbyes = Goodbyes()
    await waited_seconds(goodbyes)
    goodbyes.may_be_said()
    assert await waited_seconds(goodbyes) >= 0.1


async def test_an_answer_is_not_waited_for_longer_than_it_takes_and_an_error_is_one():
    goodbyes = Goodbyes()
    assert await goodbyes.is_answered(asyncio.ensure_future(asyncio.sleep(0)))
    failed = unanswered()
    failed.set_exception(ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        await goodbyes.is_answered(failed)
    assert await waited_seconds(goodbyes) >= 0.1
