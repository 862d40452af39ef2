"""docs/performance.md is made from what was measured, part by part, and from nothing else."""

from pathlib import Path

from bench.figures import Result, Table, at_least, at_most
from bench.report import DOCS, Measured, details, load, machine, markdown_table, measured, page, summary, write

ORDER = ("intake", "lists", "relay")


def part(name: str, value: float) -> Measured:
    table = Table("Rounds", ("system", "rate"), (("Leads | ours", f"{value}"),))
    figures = (at_least(f"{name}, rate", value, 10.0, "leads/s"), at_most(f"{name}, p95", 90.0, 50.0, "ms"))
    return Measured(
        f"make bench ARGS={name}", "x86_64, 2 cores", "2026-11-28", Result(f"How {name} was.", figures, (table,))
    )


def test_a_table_is_markdown_and_a_bar_in_a_cell_does_not_end_it():
    assert markdown_table(("a", "b"), [("1|2", "3")]) == "| a | b |\n| --- | --- |\n| 1\\|2 | 3 |\n"


def test_the_summary_has_each_figure_with_its_verdict_and_command():
    text = summary([part("intake", 12.0), part("lists", 8.0)])
    assert "| intake, rate | ≥ 10 leads/s | 12.0 leads/s | 1.20× | met | `make bench ARGS=intake` |" in text
    assert "| lists, rate | ≥ 10 leads/s | 8 leads/s | 0.80× | missed | `make bench ARGS=lists` |" in text
    assert "| lists, p95 | ≤ 50 ms | 90.0 ms | 1.80× | missed | `make bench ARGS=lists` |" in text


def test_the_details_say_how_it_was_measured_and_show_every_table():
    text = details(part("intake", 12.0))
    assert text.startswith("How intake was.\n\n**Rounds**\n\n| system | rate |\n")
    assert r"| Leads \| ours | 12.0 |" in text


def test_a_part_that_is_measured_again_takes_its_own_place_only(tmp_path: Path):
    write({"relay": part("relay", 5.0), "intake": part("intake", 12.0)}, ORDER, tmp_path)
    write({"lists": part("lists", 8.0), "intake": part("intake", 20.0)}, ORDER, tmp_path)

    known = load(tmp_path)
    assert list(known) == list(ORDER)
    assert known == {"intake": part("intake", 20.0), "lists": part("lists", 8.0), "relay": part("relay", 5.0)}
    text = (tmp_path / "performance.md").read_text()
    assert text == page(known)
    assert "| 12.0 leads/s |" not in text
    assert text.index("## Intake") < text.index("## Lists") < text.index("## Relay")


def test_nothing_is_known_before_it_was_measured(tmp_path: Path):
    assert load(tmp_path) == {}


def test_the_machine_is_told_by_what_counts():
    assert measured("c", Result("", ())).machine == machine()
    assert "cores" in machine()
    assert "GiB" in machine()


def test_the_page_in_docs_is_the_one_that_was_measured():
    file = DOCS / "performance.md"
    assert (file.read_text() if file.exists() else None) == (page(load()) if load() else None)
