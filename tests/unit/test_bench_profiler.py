"""py-spy's stacks are added up by function: lines do not part it, recursion does not count it twice."""

import pytest

from bench.profiler import spent

FOLDED = """\
main (app.py:1);serve (app.py:10);parse (form.py:5) 30
main (app.py:1);serve (app.py:12);parse (form.py:9) 20
main (app.py:1);serve (app.py:12) 10
walk (tree.py:3);walk (tree.py:3);walk (tree.py:4) 40
"""


def test_own_time_is_the_innermost_functions_and_total_that_of_all_in_the_stack():
    samples, found = spent(FOLDED)
    shares = {one.function: (one.own, one.total) for one in found}
    assert samples == 100
    assert shares == {
        "parse (form.py)": (0.5, 0.5),
        "walk (tree.py)": (0.4, 0.4),
        "serve (app.py)": (0.1, 0.6),
        "main (app.py)": (0.0, 0.6),
    }
    assert [one.function for one in found][:2] == ["parse (form.py)", "walk (tree.py)"]


def test_nothing_seen_is_nothing_spent():
    assert spent("") == (0, [])


@pytest.mark.parametrize("frame", ["<lambda> (<string>)", "poll (native)", "C (a:b.py)"])
def test_a_frame_without_a_line_is_told_as_it_is(frame: str):
    assert spent(f"{frame} 1")[1][0].function == frame
