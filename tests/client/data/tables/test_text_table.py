"""CSV files as sites have them: canonical names, odd line breaks, and files that are no table."""

import pytest

from client.data.tables.text_table import TextTable, is_missing
from shared_model.errors import TableError


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "Expected a header in t.csv"),
        (b"a b,A_B\n1,2\n", "column 'a_b' once"),
        (b"\xff\xfea", "Expected a readable CSV file t.csv: .*; save it again as CSV UTF-8"),
        (b"\xd0\xcf\x11\xe0", "got an old workbook"),
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
    assert table.problems == {1: "Expected 2 cells in the row, got 1.", 2: "Expected 2 cells in the row, got 3."}
    # Of the file as it stands: its third row is blank.
    assert list(table.numbers) == [1, 2, 4, 5]
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


TABLE = {"patient_id": ["1", "Müller, Ä"], "mass_shape": ["", "OVAL; \n ROUND"]}
TEXT = 'Patient ID,Mass shape\n1,\n"Müller, Ä","OVAL; \n ROUND"\n'


class TestDialects:
    @pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
    @pytest.mark.parametrize("start", ["", "sep={}\n", "\n\n"])
    def test_separators(self, tmp_path, separator, start):
        lines = (
            TEXT.replace("ID,Mass", f"ID{separator}Mass").replace("1,", f"1{separator}").replace('",', f'"{separator}')
        )
        (tmp_path / "t.csv").write_text(start.format(separator) + lines, encoding="utf-8")
        assert {name: list(cells) for name, cells in TextTable.load(tmp_path / "t.csv").cells.items()} == TABLE

    @pytest.mark.parametrize(
        "encoding",
        [
            "utf-8",
            "utf-8-sig",
            "utf-16",
            "utf-16-le",
            "utf-16-be",
            "utf-32",
            "utf-32-le",
            "utf-32-be",
            "latin-1",
            "cp1252",
        ],
    )
    @pytest.mark.parametrize("line_end", ["\n", "\r\n"])
    def test_encodings(self, tmp_path, encoding, line_end):
        (tmp_path / "t.csv").write_bytes(TEXT.replace("\n", line_end).encode(encoding))
        cells = TextTable.load(tmp_path / "t.csv").cells
        assert list(cells["patient_id"]) == TABLE["patient_id"]

    @pytest.mark.parametrize(
        "content",
        [
            "\ufeff\ufeff" + TEXT,
            "sep=,\n\ufeff" + TEXT,
            TEXT + "\x1a",
            TEXT + "\0" * 512,
            TEXT.replace("Patient", "Pa\u200btient\u00a0"),
            r"sep=\t" + "\n" + TEXT.replace("ID,Mass", "ID\tMass").replace("1,", "1\t").replace('",', '"\t'),
        ],
        ids=["two marks", "mark after sep", "Ctrl-Z", "NUL at the end", "invisible in a name", "sep in words"],
    )
    def test_what_nobody_sees(self, tmp_path, content):
        (tmp_path / "t.csv").write_text(content, encoding="utf-8")
        table = TextTable.load(tmp_path / "t.csv")
        assert {name: list(cells) for name, cells in table.cells.items()} == TABLE
        assert not table.problems

    def test_a_number_that_was_kept_as_text_for_a_spreadsheet(self, tmp_path):
        (tmp_path / "t.csv").write_text('patient_id,b,c\n="00012",="",=1+1\n"=""0013""",x="1",a\n')
        assert [tuple(row.values()) for row in TextTable.load(tmp_path / "t.csv").rows] == [
            ("00012", "", "=1+1"),
            ("0013", 'x="1"', "a"),
        ]

    def test_the_separator_is_the_one_that_cuts_the_patients_out(self, tmp_path):
        (tmp_path / "t.csv").write_text("patient_id;margins, as read, by, anybody\n1;a, b\n")
        assert list(TextTable.load(tmp_path / "t.csv").cells["patient_id"]) == ["1"]

    @pytest.mark.parametrize(
        ("first", "shown"),
        [("Export of 2024\n\n", r"export_of_2024\.$"), ("", r"patient:id:x\.$"), ("<html>\n", r"<html>\.$")],
    )
    def test_a_first_row_that_names_no_column(self, tmp_path, first, shown):
        (tmp_path / "t.csv").write_text(f"{first}patient:id:x\n1:2:3\n")
        with pytest.raises(
            TableError, match="to have column patient_id, label.*; the first row must .* and has " + shown
        ):
            TextTable.load(tmp_path / "t.csv").require(["patient_id", "label"])

    def test_a_byte_of_one_row_changes_no_other(self, tmp_path):
        """Else whether a patient is there would show in the names of others."""
        (tmp_path / "t.csv").write_bytes("a\nMüller\n".encode() + b"M\xfcller\n\x81\n")
        assert list(TextTable.load(tmp_path / "t.csv").cells["a"]) == ["Müller", "Müller", "\x81"]

    def test_columns_and_rows_that_a_spreadsheet_leaves_behind(self, tmp_path):
        (tmp_path / "t.csv").write_text("a,b,,\n1,2,,\n,,,\n3,4\n ,\n5,6,,,,\n7,8,,x\n,,,\n")
        table = TextTable.load(tmp_path / "t.csv")
        assert {name: list(cells) for name, cells in table.cells.items()} == {
            "a": ["1", "3", "5", ""],
            "b": ["2", "4", "6", ""],
        }
        assert list(table.numbers) == [1, 3, 5, 6]
        assert table.problems == {3: "Expected 2 cells in the row, got 4."}

    def test_the_header_alone_decides(self, tmp_path):
        (tmp_path / "t.csv").write_text("a;b\n1,5;2,5\n3,5;4,5\n")
        assert list(TextTable.load(tmp_path / "t.csv").cells["b"]) == ["2,5", "4,5"]


def test_a_column_that_is_spelt_otherwise_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("patientid,label\n1,2\n")
    with pytest.raises(TableError, match=r"to have column patient_id; is patientid its patient_id\?\.$"):
        TextTable.load(tmp_path / "t.csv").require(["patient_id", "label"])


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
