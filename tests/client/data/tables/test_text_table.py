"""CSV files as sites have them: canonical names, odd line breaks, and files that are no table."""

import pytest

from client.data.tables.text_table import TextTable, is_missing
from shared_model.errors import TableError


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "Expected a header in t.csv"),
        (b"a b,A_B\n1,2\n", "column 'a_b' once"),
        (b"a\n\xff\n", "Expected a readable CSV file t.csv"),
        (b'a\n"x\n', "Expected a readable CSV file t.csv"),
    ],
)
def test_malformed_csv(tmp_path, content, match):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(TableError, match=match) as caught:
        TextTable.load(path)
    assert "\n" not in str(caught.value)


def test_csv_canonical_names_byte_order_mark_and_blank_lines(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffPatient ID,ROI mask-file  path\n\n1,"x\ny"\n\n'.encode())
    table = TextTable.load(path)
    assert table.columns == ("patient_id", "roi_mask_file_path")
    assert table.rows == ({"patient_id": "1", "roi_mask_file_path": "x\ny"},)
    with pytest.raises(TableError, match=r"Expected t\.csv to have column view, age"):
        table.require(["patient_id", "view", "age"])


def test_a_row_of_another_length_is_that_rows_problem(tmp_path):
    """Nobody knows which of its cells is which, so none is read; the other rows stay."""
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n\n4,5,6\n7,8\n")
    table = TextTable.load(tmp_path / "t.csv")
    assert [tuple(row.values()) for row in table.rows] == [("1", "2"), ("", ""), ("", ""), ("7", "8")]
    assert table.problems == {2: "Expected 2 cells in the row, got 1.", 3: "Expected 2 cells in the row, got 3."}
    with pytest.raises(TableError, match=r"Row 2 of t\.csv: Expected 2 cells in the row, got 1\."):
        table.require_whole()


def test_a_cell_may_be_longer_than_the_csv_module_expects(tmp_path):
    (tmp_path / "t.csv").write_text(f"a,b\n1,{'x' * 200_000}\n3,4\n")
    assert [len(row["b"]) for row in TextTable.load(tmp_path / "t.csv").rows] == [200_000, 1]


@pytest.mark.parametrize("cell", ["", "  ", "NA", "n/a", "NaN", "<na>", " Null\n"])
def test_spellings_of_not_recorded(cell):
    assert is_missing(cell)


@pytest.mark.parametrize("cell", ["0", "no", "none", "-", "N"])
def test_other_cells_say_something(cell):
    assert not is_missing(cell)


def test_a_missing_file(tmp_path):
    with pytest.raises(TableError, match=r"Expected a readable CSV file none\.csv"):
        TextTable.load(tmp_path / "none.csv")


def test_a_column_is_recorded_where_any_row_says_something():
    table = TextTable.from_cells("a.csv", ["label", "view", "side"], [["", "CC", "n/a"], ["1", "NA", ""]])
    assert table.recorded == {"label", "view"}
    assert table.filled({"side": "LEFT"}).recorded == {"label", "view", "side"}


def test_a_filled_column_replaces_what_the_file_says_and_leaves_the_rest():
    table = TextTable.from_cells("a.csv", ["label", "split"], [["0", "train"], ["1"]])
    filled = table.filled({"split": "test"})
    assert [row["split"] for row in filled.rows] == ["test", "test"]
    assert filled.rows[0]["label"] == "0"
    # What nobody can read stays a problem.
    assert filled.problems == table.problems
    assert table.rows[0]["split"] == "train"
