"""Cells that a spreadsheet would run and a terminal would obey."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared_model.system.spreadsheets import harmless_cell, harmless_csv


@pytest.mark.parametrize("cell", ["=1+1", "+A1", "-A1", "@SUM(A1)", " =1", "\t=1", "\r@x", "\uff1d1", "\uff0b1"])
def test_a_formula_becomes_text(cell):
    assert harmless_cell(cell).startswith("'")


@pytest.mark.parametrize("cell", ["-1", "+0.5", "-1e-05", "-inf", "nan", "P_00001", "a=b", "", "Müller"])
def test_numbers_and_words_stay(cell):
    assert harmless_cell(cell) == cell


@given(cells=st.lists(st.text(max_size=12), min_size=1, max_size=4))
def test_every_cell_is_printable_and_none_begins_a_formula(cells):
    content = harmless_csv(cells, [cells]).decode()
    assert content.replace("\n", "").isprintable()
    for row in csv.reader(io.StringIO(content)):
        for cell in row:
            assert harmless_cell(cell) == cell
