"""CSV files as sites have them: canonical names, odd line breaks, and files that are no table."""

import pytest

from client.data.tables.text_table import TextTable, is_missing
from shared_model.errors import TableError


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "Expected a header in t.csv"),
        (b"a,b\n1\n", "Expected 2 cells in row 1 of t.csv, got 1"),
        (b"a,b\n1,2,3\n", "Expected 2 cells in row 1 of t.csv, got 3"),
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


@pytest.mark.parametrize("cell", ["", "  ", "NA", "n/a", "NaN", "<na>", " Null\n"])
def test_spellings_of_not_recorded(cell):
    assert is_missing(cell)


@pytest.mark.parametrize("cell", ["0", "no", "none", "-", "N"])
def test_other_cells_say_something(cell):
    assert not is_missing(cell)


def test_a_missing_file(tmp_path):
    with pytest.raises(TableError, match=r"Expected a readable CSV file none\.csv"):
        TextTable.load(tmp_path / "none.csv")
