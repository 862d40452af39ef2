"""A verdict and a ratio say what was measured, at the edges too; what wrk prints and parts count is read right."""

import time

import pytest

from bench.figures import (
    Verdict,
    at_least,
    at_least_share,
    at_most,
    at_most_share,
    number,
    percentile,
    ratio,
    reported,
    spread,
)
from bench.latency import Sent, spans_ms
from bench.notifier import mails_per_second
from bench.open_model import due
from bench.peers.protocol import Kept, Lost, still
from bench.peers.sendgrid import Mail
from bench.relay import per_second
from bench.rounds import own_folder, rotated
from bench.wrk import Load, parse


def test_what_wrk_tells_is_read_and_what_it_does_not_tell_is_no_result():
    output = "Running 2s test @ http://127.0.0.1:1\n  1 threads and 32 connections\nRESULT 1010 8 2 2.000 12.5 99.25\n"
    load = parse(output)
    assert load == Load(accepted=1002, refused=8, broken=2, seconds=2.0, p50_ms=12.5, p99_ms=99.25)
    assert load.per_second == 501
    with pytest.raises(ValueError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused\n")


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict", "shown"),
    [
        (1300.0, 1000.0, Verdict.MET, "1.30×"),
        (1000.0, 1000.0, Verdict.MET, "1.00×"),
        (999.0, 1000.0, Verdict.MISSED, "1.00×"),
        (0.0, 1000.0, Verdict.MISSED, "0.00×"),
        (1000.0, 0.0, Verdict.MISSED, "—"),
    ],
)
def test_a_share_is_met_from_the_target_on_and_by_the_figure_not_by_what_is_shown(ours, theirs, verdict, shown):
    figure = at_least_share("intake", ours, theirs, of="PocketBase", share=1.0, unit="leads/s")
    assert (figure.verdict, figure.ratio, figure.target) == (verdict, shown, "≥ 1× PocketBase")


def test_less_is_better_where_the_target_is_a_highest():
    assert at_most_share("p99", 40.0, 80.0, of="PocketBase", share=1.0, unit="ms").verdict is Verdict.MET
    assert at_most_share("p99", 81.0, 80.0, of="PocketBase", share=1.0, unit="ms").verdict is Verdict.MISSED
    assert at_most_share("p99", 0.0, 0.0, of="PocketBase", share=1.0, unit="ms").verdict is Verdict.MISSED
    assert at_most("start", 1.5, 1.5, "s").verdict is Verdict.MET
    assert at_most("start", 1.51, 1.5, "s").verdict is Verdict.MISSED
    assert at_most("requests over the limit", 0, 0, "requests").verdict is Verdict.MET
    assert at_least("relay", 4_999, 5_000, "events/s").verdict is Verdict.MISSED
    assert at_least("relay", 5_000, 5_000, "events/s").ratio == "1.00×"


def test_what_has_no_target_is_reported():
    assert reported("memory", "90 MiB").verdict is Verdict.REPORTED


def test_numbers_are_shown_with_the_digits_that_count():
    shown = [number(value) for value in (1234.56, 100.4, 45.67, 4.567, 0.1234, 0)]
    assert shown == ["1,235", "100", "45.7", "4.57", "0.123", "0"]
    assert spread([12.0]) == "12.0"
    assert spread([300.0, 100.0, 200.0]) == "200 (100 to 300)"
    assert ratio(1.0, 3.0) == "0.33×"


def test_a_percentile_is_a_value_that_was_measured():
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 50.0, 99.0, 100.0]
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no value"):
        percentile([], 0.5)


def test_events_are_counted_from_the_first_batch_that_was_marked():
    assert per_second([(100.0, 500), (100.5, 500), (101.0, 500)]) == 1_000
    with pytest.raises(ValueError, match="two batches"):
        per_second([(100.0, 500)])


def test_mails_are_counted_from_the_first_that_was_accepted():
    assert mails_per_second([10.0, 10.5, 11.0]) == 2


def test_a_span_is_that_of_each_mail_and_a_mail_that_did_not_come_is_a_loss():
    sent = [Sent("a", due_at=1.0, created_at=1.5, answered_at=1.6)]
    mails = [Mail("a", "prospect", 1.75), Mail("of-another-run", "staff", 9.0), Mail("a", "staff", 2.0)]
    assert spans_ms(sent, mails) == ([250.0, 500.0], [750.0, 1000.0])
    with pytest.raises(Lost):
        spans_ms(sent, mails[:2])


async def test_the_open_model_does_not_wait_for_who_is_late():
    began_at = time.monotonic()
    seen = []
    async for one, due_at in due(5, per_second=100.0):
        if one == 0:
            time.sleep(0.1)
        seen.append((one, round((due_at - began_at) * 100)))
    assert seen == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]


async def test_what_a_peer_lacks_is_a_loss_and_what_it_has_more_is_told():
    kept = await still("peer", lambda: Kept(leads=10, files=12), accepted=10)
    assert str(kept) == "10 rows, 12 files"
    with pytest.raises(Lost, match="answered 11 leads as kept"):
        await still("peer", lambda: Kept(leads=10, files=12), accepted=11)


def test_turns_give_each_every_place():
    orders = [rotated("abc", turn) for turn in range(4)]
    assert ["".join(order) for order in orders] == ["abc", "bca", "cab", "abc"]


def test_a_rounds_folder_is_gone_afterwards_whatever_happened(tmp_path):
    def fail() -> None:
        with own_folder(tmp_path, "One round") as folder:
            (folder / "file").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.iterdir())
