"""A trouble that lasts is said at once, when it changes, and once a minute: not every second."""

import pytest

from shared.repeats import SAY_AGAIN_SECONDS, Repeats


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repeats(clock: Clock) -> Repeats:
    return Repeats(clock=clock)


def test_the_same_is_news_once_a_minute(repeats, clock):
    said = []
    for second in range(int(SAY_AGAIN_SECONDS) + 1):
        clock.now = 1000.0 + second
        if repeats.is_news("the broker is away"):
            said.append(second)
    assert said == [0, int(SAY_AGAIN_SECONDS)]


def test_another_reason_is_news(repeats):
    assert repeats.is_news("the broker is away")
    assert repeats.is_news("the broker refuses the password")
    assert repeats.is_news("the broker is away")


def test_what_only_counts_on_is_no_news(repeats):
    assert repeats.is_news("3 of 5 messages are not confirmed")
    assert not repeats.is_news("4 of 17 messages are not confirmed")


def test_after_it_was_over_the_same_is_news_again(repeats):
    assert repeats.is_news("the broker is away")
    repeats.over()
    assert repeats.is_news("the broker is away")
