"""The circuit: when it opens, for how long, who may probe, and what closes it."""

import asyncio

import pytest
from structlog.testing import capture_logs

from services.notifier.circuit import PROBE_LEASE_SECONDS, Circuit, CircuitOpen, CircuitPolicy, CircuitState
from services.notifier.email import (
    MailError,
    MailRejected,
    MailThrottled,
    MailUnauthorized,
    MailUnavailable,
    MailUncertain,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> Circuit:
    return Circuit(clock=clock)


def fail(circuit: Circuit, times: int, error: MailError | None = None) -> None:
    for _ in range(times):
        circuit.failed(error or MailUnavailable("SendGrid could not be reached."))


async def is_admitted(circuit: Circuit) -> bool:
    try:
        await circuit.wait(0)
    except CircuitOpen:
        return False
    return True


async def test_it_is_closed_at_first(circuit):
    await circuit.wait(0)
    await circuit.wait(0)
    assert (circuit.state, circuit.reason, circuit.open_for_seconds) == (CircuitState.CLOSED, None, 0)


async def test_five_failures_in_a_row_open_it_for_five_seconds(circuit):
    fail(circuit, 4)
    assert circuit.state is CircuitState.CLOSED
    fail(circuit, 1)
    assert circuit.state is CircuitState.OPEN
    assert circuit.open_for_seconds == 5
    with pytest.raises(CircuitOpen, match="could not be reached") as caught:
        await circuit.wait(0)
    assert caught.value.retry_after_seconds == 5


@pytest.mark.parametrize("answer", [Circuit.succeeded, lambda circuit: circuit.failed(MailRejected("no"))])
def test_any_answer_starts_the_count_again(circuit, answer):
    fail(circuit, 4)
    answer(circuit)
    fail(circuit, 4)
    assert circuit.state is CircuitState.CLOSED


def test_an_uncertain_send_counts_as_unavailable(circuit):
    fail(circuit, 2)
    fail(circuit, 3, MailUncertain("no answer"))
    assert circuit.state is CircuitState.OPEN


def test_rejections_never_open_it(circuit):
    fail(circuit, 100, MailRejected("no"))
    assert circuit.state is CircuitState.CLOSED


def test_one_refused_key_opens_it_for_half_a_minute_and_the_log_names_the_setting(circuit):
    with capture_logs() as lines:
        fail(circuit, 10, MailUnauthorized("SendGrid answered 401. Check SENDGRID_API_KEY."))
    assert circuit.open_for_seconds == 30
    assert [line["event"] for line in lines] == ["circuit opened"]
    assert "SENDGRID_API_KEY" in lines[0]["reason"]


def test_one_throttle_opens_it_until_the_reset(circuit, clock):
    fail(circuit, 1, MailThrottled("too many requests", retry_after_seconds=17))
    assert circuit.open_for_seconds == 17
    clock.pass_(17)
    assert circuit.state is CircuitState.HALF_OPEN


def test_the_later_of_two_resets_holds(circuit):
    fail(circuit, 1, MailThrottled("too many requests", retry_after_seconds=30))
    fail(circuit, 1, MailThrottled("too many requests", retry_after_seconds=5))
    assert circuit.open_for_seconds == 30


async def test_half_open_lets_exactly_one_through(circuit, clock):
    fail(circuit, 5)
    clock.pass_(5)
    assert [await is_admitted(circuit) for _ in range(3)] == [True, False, False]
    circuit.succeeded()
    assert circuit.state is CircuitState.CLOSED
    assert [await is_admitted(circuit) for _ in range(3)] == [True, True, True]


async def test_a_rejected_probe_closes_it_because_the_provider_answered(circuit, clock):
    fail(circuit, 5)
    clock.pass_(5)
    await circuit.wait(0)
    circuit.failed(MailRejected("no"))
    assert circuit.state is CircuitState.CLOSED


async def test_pauses_double_up_to_half_a_minute_and_start_again_after_a_success(circuit, clock):
    fail(circuit, 5)
    pauses = [circuit.open_for_seconds]
    for _ in range(5):
        clock.pass_(circuit.open_for_seconds)
        await circuit.wait(0)
        fail(circuit, 1)
        pauses.append(circuit.open_for_seconds)
    assert pauses == [5, 10, 20, 30, 30, 30]
    clock.pass_(30)
    await circuit.wait(0)
    circuit.succeeded()
    fail(circuit, 5)
    assert circuit.open_for_seconds == 5


def test_failures_of_emails_already_under_way_do_not_lengthen_the_pause(circuit):
    fail(circuit, 30)
    assert circuit.open_for_seconds == 5


@pytest.mark.parametrize("answer", [Circuit.succeeded, lambda circuit: circuit.failed(MailRejected("no"))])
def test_answers_to_emails_already_under_way_do_not_lift_a_throttle(circuit, answer):
    fail(circuit, 1, MailThrottled("too many requests", retry_after_seconds=30))
    answer(circuit)
    assert circuit.open_for_seconds == 30


async def test_an_abandoned_probe_leaves_the_place_to_the_next(circuit, clock):
    fail(circuit, 5)
    clock.pass_(5)
    with pytest.raises(ZeroDivisionError):
        async with circuit.attempt(0):
            raise ZeroDivisionError
    assert circuit.state is CircuitState.HALF_OPEN
    assert await is_admitted(circuit)


async def test_a_probe_that_never_ends_does_not_stop_the_mail_for_ever(circuit, clock):
    fail(circuit, 5)
    clock.pass_(5)
    await circuit.wait(0)
    clock.pass_(PROBE_LEASE_SECONDS - 1)
    assert not await is_admitted(circuit)
    clock.pass_(1)
    assert await is_admitted(circuit)


async def test_an_attempt_learns_from_how_its_block_ended(circuit):
    fail(circuit, 4)
    with pytest.raises(MailUnavailable):
        async with circuit.attempt(0):
            raise MailUnavailable("away")
    assert circuit.state is CircuitState.OPEN
    with pytest.raises(CircuitOpen):
        async with circuit.attempt(0):
            pytest.fail("the block ran")


async def test_a_cancelled_attempt_teaches_nothing(circuit):
    async def never_ending() -> None:
        async with circuit.attempt(0):
            await asyncio.Event().wait()

    fail(circuit, 4)
    task = asyncio.create_task(never_ending())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert circuit.state is CircuitState.CLOSED
    fail(circuit, 1)
    assert circuit.state is CircuitState.OPEN


async def test_a_cancelled_probe_leaves_the_place_to_the_next(circuit, clock):
    fail(circuit, 5)
    clock.pass_(5)
    with pytest.raises(asyncio.CancelledError):
        async with circuit.attempt(0):
            raise asyncio.CancelledError
    assert await is_admitted(circuit)


async def test_waiters_are_let_through_when_the_probe_succeeds_and_only_then():
    circuit = Circuit(CircuitPolicy(failures=1, first_pause_seconds=0.05))
    fail(circuit, 1)
    sent: list[int] = []
    probe_may_end = asyncio.Event()

    async def send(number: int) -> None:
        async with circuit.attempt(5):
            sent.append(number)
            await probe_may_end.wait()

    tasks = [asyncio.create_task(send(number)) for number in range(20)]
    await asyncio.sleep(0.2)
    assert len(sent) == 1
    probe_may_end.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 2)
    assert sorted(sent) == list(range(20))


async def test_when_the_probe_fails_one_waiter_probes_after_the_next_pause():
    circuit = Circuit(CircuitPolicy(failures=1, first_pause_seconds=0.05))
    fail(circuit, 1)
    probes = 0

    async def send() -> None:
        nonlocal probes
        async with circuit.attempt(5):
            probes += 1
            if probes < 3:
                raise MailUnavailable("away")

    outcomes = await asyncio.wait_for(asyncio.gather(*(send() for _ in range(10)), return_exceptions=True), 3)
    assert [type(outcome) for outcome in outcomes if outcome is not None] == [MailUnavailable] * 2


async def test_waiting_ends_after_the_time_given_with_the_time_left():
    circuit = Circuit(CircuitPolicy(failures=1, first_pause_seconds=30))
    fail(circuit, 1)
    began = asyncio.get_running_loop().time()
    with pytest.raises(CircuitOpen) as caught:
        await circuit.wait(0.05)
    assert 0.04 < asyncio.get_running_loop().time() - began < 1
    assert 29 < caught.value.retry_after_seconds < 30


async def test_closing_is_logged_once_with_what_it_was_open_for(circuit, clock):
    fail(circuit, 5)
    clock.pass_(5)
    with capture_logs() as lines:
        circuit.succeeded()
        circuit.succeeded()
    assert [(line["event"], line["was"]) for line in lines] == [("circuit closed", "SendGrid could not be reached.")]


async def test_who_waits_is_sent_off_at_once_when_the_process_stops_and_nobody_waits_after_that(circuit):
    fail(circuit, 5)
    waiting = [asyncio.create_task(circuit.wait(300)) for _ in range(3)]
    await asyncio.sleep(0)
    circuit.let_go()
    outcomes = await asyncio.wait_for(asyncio.gather(*waiting, circuit.wait(300), return_exceptions=True), 1)
    assert [type(outcome) for outcome in outcomes] == [CircuitOpen] * 4
    assert str(outcomes[0]) == "SendGrid could not be reached."
