"""Cells of the official tables and of those that sites keep: understood in one way, or an error with its reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.data.tables.cells import parse_box, parse_clinical_cell, parse_outcome, relative_path
from shared_model.errors import TableError
from shared_model.vocabulary import CLINICAL_COLUMNS, Encoding, Pathology

COLUMN = {column.name: column for column in CLINICAL_COLUMNS}


@pytest.mark.parametrize(
    ("name", "cell", "value"),
    [
        ("breast_density", "3", "3"),
        ("breast_density", " 3.0 ", "3"),
        ("breast_density", "03", "3"),
        ("breast_density", "0", None),
        ("breast_density", "0.0", None),
        ("breast_density", "", None),
        ("assessment", "0", None),
        ("assessment", "5.", "5"),
        ("laterality", "left", "LEFT"),
        ("view", " mlo", "MLO"),
        ("abnormality_type", "Mass", "mass"),
        ("family_history", "Yes", "yes"),
        ("age", "45.9", "45"),
        ("age", "18", "18"),
        ("age", "100", "100"),
        ("mass_shape", "ROUND-OVAL", "ROUND-OVAL"),
        ("mass_shape", "oval - round", "ROUND-OVAL"),
        ("mass_shape", "architectural distortion", "ARCHITECTURAL_DISTORTION"),
        ("mass_margins", "ILL-DEFINED", "ILL_DEFINED"),
        ("mass_margins", "SPICULATED-ILL_DEFINED", "ILL_DEFINED-SPICULATED"),
        ("calc_type", "PLEOMORPHIC-PLEOMORPHIC", "PLEOMORPHIC"),
        ("calc_distribution", "N/A", None),
        ("calc_distribution", "nan", None),
        ("mass_shape", "  ", None),
        ("breast_density", "A", "1"),
        ("breast_density", "d", "4"),
        ("breast_density", "DENSITY C", "3"),
        ("breast_density", "ACR 2", "2"),
        ("breast_density", "3,0", "3"),
        ("laterality", "L", "LEFT"),
        ("laterality", "r", "RIGHT"),
        ("age", "90+", "90"),
        ("age", "045Y", "45"),
        ("age", "45 years", "45"),
        ("age", "45,9", "45"),
        ("assessment", "BI-RADS 4A", "4"),
        ("assessment", "4b", "4"),
        ("family_history", "True", "yes"),
        ("family_history", "0", "no"),
        ("abnormality_type", "Calc", "calcification"),
        ("mass_margins", "INDISTINCT", "ILL_DEFINED"),
        ("mass_margins", "Indistinct, spiculated", "ILL_DEFINED-SPICULATED"),
        ("mass_shape", "oval/round", "ROUND-OVAL"),
        ("calc_type", "Large rod-like; rim", "EGGSHELL-LARGE_RODLIKE"),
        ("calc_distribution", "grouped", "CLUSTERED"),
    ],
)
def test_cell_becomes_canonical(name, cell, value):
    assert parse_clinical_cell(COLUMN[name], cell) == value


@pytest.mark.parametrize(
    ("name", "cell", "match"),
    [
        ("breast_density", "7", r"Expected breast_density='7' to be one of 1, 2, 3, 4\."),
        ("breast_density", "3.5", "breast_density='3.5'"),
        ("breast_density", "-1", "breast_density='-1'"),
        ("breast_density", "1,000", "breast_density='1,000'"),
        ("age", "<45", "age='<45'"),
        ("assessment", "6", "assessment='6'"),
        ("breast_density", "inf", "breast_density='inf'"),
        ("breast_density", "9" * 500, "breast_density='9{40}'"),
        ("age", "17.9", r"Expected age='17' in \[18, 100\]\."),
        ("age", "101", r"in \[18, 100\]"),
        ("age", "old", "age='old'"),
        ("laterality", "LEFT-RIGHT", "to be one of LEFT, RIGHT"),
        ("view", "XCCL", "to be one of CC, MLO"),
        ("mass_shape", "ROUND-", "mass_shape='ROUND-'"),
        ("mass_shape", "ROUND-NA", "mass_shape='ROUND-NA'"),
        ("mass_shape", "SPICULATED", "to be one of ROUND, OVAL"),
        ("mass_shape", "a\nb", r"mass_shape='a\\nb'"),
    ],
)
def test_unknown_cell_is_an_error_and_never_missing(name, cell, match):
    with pytest.raises(TableError, match=match) as caught:
        parse_clinical_cell(COLUMN[name], cell)
    assert "\n" not in str(caught.value)


@given(data=st.data(), column=st.sampled_from(CLINICAL_COLUMNS))
def test_parsing_ignores_case_order_and_repeats_and_is_idempotent(data, column):
    most = 1 if column.encoding is Encoding.ORDINAL else 6
    chosen = data.draw(st.lists(st.sampled_from(column.values), min_size=1, max_size=most))
    cell = data.draw(st.sampled_from(("-", " - "))).join(chosen)
    canonical = parse_clinical_cell(column, data.draw(st.sampled_from((cell, cell.lower(), f" {cell} "))))
    assert set(canonical.split("-")) == set(chosen)
    assert parse_clinical_cell(column, canonical) == canonical
    assert parse_clinical_cell(column, "-".join(reversed(chosen))) == canonical


@given(cell=st.text(max_size=30), column=st.sampled_from(CLINICAL_COLUMNS))
def test_any_text_is_a_known_value_or_missing_or_an_error(cell, column):
    try:
        value = parse_clinical_cell(column, cell)
    except TableError:
        return
    assert value is None or set(value.split("-")) <= set(column.values)


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1", (1, None)),
        ("0.0", (0, None)),
        ("malignant", (1, Pathology.MALIGNANT)),
        ("True", (1, None)),
        ("no", (0, None)),
        ("B", (0, None)),
        ("Benign without callback", (0, Pathology.BENIGN_WITHOUT_CALLBACK)),
    ],
)
def test_outcome(cell, expected):
    assert parse_outcome("label", cell) == expected


@pytest.mark.parametrize("cell", ["", "2", "N/A", "unknown", "MALIGNANT-BENIGN"])
def test_unknown_outcome(cell):
    with pytest.raises(TableError, match=r"Expected pathology=.* to be one of 0, 1, MALIGNANT, BENIGN"):
        parse_outcome("pathology", cell)


def test_box():
    assert parse_box(("0", "1.0", "2", "3")) == (0, 1, 2, 3)
    assert parse_box(("", "NA", "", "")) == (None, None, None, None)


@pytest.mark.parametrize(
    ("cells", "match"),
    [
        (("1", "2", "3", ""), "roi_h=''"),
        (("1", "2", "0", "4"), "roi_w='0' to be a whole number >= 1"),
        (("-1", "2", "3", "4"), "roi_x='-1'"),
        (("1", "2.5", "3", "4"), "roi_y='2.5'"),
        (("1", "²", "3", "4"), "roi_y='²'"),
        (("1", "2", "9999999999", "4"), "roi_w='9999999999'"),
    ],
)
def test_bad_box(cells, match):
    with pytest.raises(TableError, match=match):
        parse_box(cells)


def test_relative_path_drops_line_breaks_and_quotes():
    assert str(relative_path('"a/b/\n000000.dcm\n"')) == "a/b/000000.dcm"
    assert str(relative_path("a\\b.dcm")) == "a/b.dcm"
    assert relative_path(" \n") is None


@pytest.mark.parametrize(
    "cell", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", "C:\\x.dcm", "\\\\host\\share\\x.dcm", "\n/etc"]
)
def test_relative_path_refuses_to_leave_the_root(cell):
    with pytest.raises(TableError, match=r"^path leaves the data root$"):
        relative_path(cell)
