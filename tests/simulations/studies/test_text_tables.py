import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from simulations.studies.text_tables import TextTable, print_table, spread

CELLS = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="\r"), max_size=8)


@given(st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1)))
def test_csv_is_read_as_it_was_written(lines):
    header, *rest = lines
    assert list(csv.reader(io.StringIO(TextTable(header=header, lines=rest).to_csv()))) == lines


def test_markdown_has_a_rule_under_the_header():
    table = TextTable(header=["run", "AUC"], lines=[["a", "0.8"], ["b", "-"]])
    assert table.to_markdown() == "| run | AUC |\n| --- | --- |\n| a | 0.8 |\n| b | - |\n"


def test_every_cell_is_printed_and_a_long_one_folded():
    console = Console(file=io.StringIO(), width=30)
    print_table(console, "Title", TextTable(header=["run", "AUC"], lines=[["word " * 12, "0.812"]]))
    printed = console.file.getvalue()
    assert "Title" in printed
    assert "0.812" in printed
    assert printed.count("word") == 12
    assert max(map(len, printed.splitlines())) <= 30


@pytest.mark.parametrize(
    ("mean", "deviation", "text"),
    [(0.8, 0.0126, "0.800 ± 0.013"), (0.8, None, "0.800"), (None, None, "-"), (0.0, 0.0, "0.000 ± 0.000")],
)
def test_spread(mean, deviation, text):
    assert spread(mean, deviation) == text
