"""The soak's verdict on growth: a leak is seen, warming up and single steps are not taken for one."""

import random

import pytest

from bench.vitals import Sample, descriptors_left_over, growth

EVERY_HOURS = 20 / 3600
LEADS_PER_HOUR = 180_000


def samples(rss_mib, fds=lambda hours: 40) -> list[Sample]:
    moments = [number * EVERY_HOURS for number in range(180)]
    return [Sample(at, int(at * LEADS_PER_HOUR), rss_mib(at), fds(at), 4) for at in moments]


def test_a_leak_is_measured_by_hour_and_by_lead():
    noise = random.Random(1)
    grown = growth(samples(lambda hours: 100 + 9 * hours + noise.uniform(-1, 1)))
    assert grown.mib_per_hour == pytest.approx(9, abs=0.6)
    assert grown.mib_per_100_000_leads == pytest.approx(5, abs=0.35)


@pytest.mark.parametrize(
    "rss_mib",
    [
        pytest.param(lambda hours: 100 + 60 * min(hours, 0.4), id="warming-up"),
        pytest.param(lambda hours: 100 + 8 * (hours > 0.9), id="one-step"),
        pytest.param(lambda hours: 100 + 10 * (hours * 60 % 1), id="sawtooth"),
    ],
)
def test_what_is_no_leak_is_not_taken_for_one(rss_mib):
    assert abs(growth(samples(rss_mib)).mib_per_hour) < 1


def test_descriptors_that_are_not_closed_again_are_left_over():
    before, burst, after = (Sample(at, 0, 100, fds, 4) for at, fds in ((0, 24), (0.5, 156), (1, 25)))
    assert descriptors_left_over({"api": before}, {"api": after}) == {"api": 1}
    assert descriptors_left_over({"api": before}, {"api": burst}) == {"api": 132}
