"""Rate limits count by the minute, whatever becomes of the wall clock meanwhile."""

import time

import pytest
from limits import parse

from services.api.rates import Rates
from shared.problems import Problem

LIMIT = parse("3/minute")


@pytest.mark.parametrize("jump_seconds", [3600, -86400])
async def test_a_clock_that_jumps_keeps_nobody_out(monkeypatch, jump_seconds):
    rates = Rates()
    for _ in range(3):
        await rates.hit(LIMIT, "203.0.113.7")
    with pytest.raises(Problem):
        await rates.hit(LIMIT, "203.0.113.7")
    jumped_at = time.time
    monkeypatch.setattr(time, "time", lambda: jumped_at() + jump_seconds)
    for _ in range(3):
        await rates.hit(LIMIT, "203.0.113.7")
    with pytest.raises(Problem) as caught:
        await rates.hit(LIMIT, "203.0.113.7")
    assert int(caught.value.headers["Retry-After"]) <= 60
