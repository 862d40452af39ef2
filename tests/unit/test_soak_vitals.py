"""The soak's verdict on growth: a leak is seen, warming up and single steps are not taken for one."""

import random

import pytest

from bench.vitals import Sample, growth

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


def test_descriptors_that_come_and_go_are_flat_and_those_that_pile_up_are_not():
    assert growth(samples(lambda _: 100, fds=lambda hours: 40 + int(hours * 100) % 3)).fds_are_flat
    assert not growth(samples(lambda _: 100, fds=lambda hours: 40 + int(hours * 10))).fds_are_flat
