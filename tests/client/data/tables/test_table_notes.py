"""What a person hears of a table: nothing if it is in order."""

import pytest

from client.data.tables.lesion_table import build_lesion_table
from client.data.tables.table_notes import notes


def test_a_table_in_order_needs_no_word(row):
    assert list(notes(build_lesion_table([row(1), row(2, film_path="f.dcm", lesion_paths=("a.png",))]))) == []


@pytest.mark.parametrize(("last", "is_said"), [("0", True), ("7", False)])
def test_long_numbers_that_a_spreadsheet_has_rounded(row, last, is_said):
    names = [f"12345678901{number:04d}0" for number in range(5)] + [f"123456789012345{last}"]
    found = list(
        notes(build_lesion_table([row(number, patient_id=name) for number, name in enumerate(names, start=1)]))
    )
    assert any("6 identifiers of more than 15 digits all end in zeros" in note for note in found) == is_said


@pytest.mark.parametrize(
    ("names", "is_said"),
    [
        (("P_12", "P-12"), True),
        (("1,234", "1234"), True),
        (("1,001", "1001"), True),
        (("M\u00c3\u00bcller 1", "M\u00fcller 1"), True),
        (("M\u00fcller 1", "Muller 1"), False),
        (("+12", "12"), True),
        (("P.12", "p 12"), False),
        (("P12", "P-12"), False),
        (("1-23", "12-3"), False),
        (("1,5", "15"), False),
    ],
)
def test_identifiers_that_differ_in_punctuation_alone(row, names, is_said):
    rows = [row(number, patient_id=name) for number, name in enumerate((*names, "X9"), start=1)]
    found = [note for note in notes(build_lesion_table(rows)) if "punctuation" in note]
    assert len(found) == is_said
    assert all(note.startswith("1 groups of identifiers differ") and names[1] in note for note in found)


def test_the_fewest_kinds_are_summed_up(row):
    outcomes = ["a", "b", "c", "d", "d"]
    rows = [row(i, outcome_column=name, clinical={name: "?"}) for i, name in enumerate(outcomes, start=1)]
    first, *_, last = notes(build_lesion_table([*rows, row(9, patient_id="")]))
    assert first.startswith("rejected: 2 x Expected d='?' to be one of 0, 1")
    assert last == "rejected: 2 rows for 2 other reasons"


def test_copies_in_jpeg(row):
    rows = [row(1, film_path="f.JPG"), row(2, lesion_paths=("a.dcm", "b.jpeg")), row(3, lesion_paths=("a.dcm",))]
    (note,) = notes(build_lesion_table(rows))
    assert note.startswith("2 lesions have copies in JPEG: 8 of the film's 16 bits")
