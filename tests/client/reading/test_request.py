"""Columns and folders as people give them: read, or refused in one line."""

import pytest

from client.reading.request import columns_from, parsed_columns, pictures_in
from shared_model.errors import ConfigError, TableError


def test_pairs_and_a_table_of_one_row_say_the_same(tmp_path):
    (tmp_path / "one.csv").write_text("breast_density;laterality\n2;LEFT\n")
    expected = {"breast_density": "2", "laterality": "LEFT"}
    assert columns_from("breast_density=2, laterality=LEFT") == expected
    assert columns_from(str(tmp_path / "one.csv")) == expected


@pytest.mark.parametrize("text", ["=", "a=1,a=2", "a=1,,", "a=1,b", ","])
def test_other_pairs_are_refused(text):
    with pytest.raises(ConfigError, match=r"Expected (columns as key=value|--columns)"):
        columns_from(text)


def test_other_tables_are_refused(tmp_path):
    table = tmp_path / "table.csv"
    for content, message in (("a\n1\n2\n", "one row"), ("a\n", "one row"), ("", "header"), ("a,b\n1\n", "cells")):
        table.write_text(content)
        with pytest.raises(ConfigError, match=message):
            columns_from(str(table))
    with table.open("wb") as file:
        file.truncate(2**40)
    for path in (table, tmp_path, tmp_path / "none.csv", "/dev/zero"):
        with pytest.raises(ConfigError, match="at most"):
            columns_from(str(path))


def test_cells_are_those_of_the_vocabulary():
    allowed = ("breast_density", "age")
    assert parsed_columns({"breast_density": " 3.0 ", "age": ""}, allowed) == {"breast_density": "3", "age": None}
    with pytest.raises(TableError, match="got 'assessment'"):
        parsed_columns({"assessment": "4"}, allowed)
    with pytest.raises(TableError, match="breast_density='9'"):
        parsed_columns({"breast_density": "9"}, allowed)


def test_a_folder_holds_one_or_two_pictures_that_say_their_view(tmp_path):
    with pytest.raises(ConfigError, match="got 0 entries"):
        pictures_in(tmp_path, {})
    with pytest.raises(ConfigError, match="a folder with the pictures"):
        pictures_in(tmp_path / "none", {})
    for name in "abc":
        (tmp_path / name).write_text("x")
    with pytest.raises(ConfigError, match="got 3 entries"):
        pictures_in(tmp_path, {})
