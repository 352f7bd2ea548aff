import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.lesion_table import (
    BOX_COLUMNS,
    LESION_SCHEMA,
    REJECT_COLUMNS,
    LesionRow,
    LesionTable,
    build_lesion_table,
    check_rejects,
    encode_clinical,
    parse_box,
    parse_clinical_cell,
    parse_outcome,
    read_csv,
    relative_path,
    write_rejects,
)
from shared_model.errors import RejectLimitError, TableError
from shared_model.vocabulary import (
    CLINICAL_COLUMNS,
    Encoding,
    FeaturePolicy,
    Pathology,
    clinical_width,
    columns_of,
)

COLUMN = {column.name: column for column in CLINICAL_COLUMNS}


def row(number=1, **changes):
    cells = {"pathology": "MALIGNANT", "breast_density": "3", "laterality": "LEFT", "view": "CC"}
    cells |= changes.pop("clinical", {})
    defaults = {
        "source": "table.csv",
        "row": number,
        "patient_id": f"P_{number}",
        "lesion_id": f"L_{number}",
        "split": "train",
        "outcome_column": "pathology",
        "clinical": cells,
    }
    return LesionRow(**(defaults | changes))


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


@settings(deadline=None)
@given(data=st.data(), column=st.sampled_from(CLINICAL_COLUMNS))
def test_parsing_ignores_case_order_and_repeats_and_is_idempotent(data, column):
    most = 1 if column.encoding is Encoding.ORDINAL else 6
    chosen = data.draw(st.lists(st.sampled_from(column.values), min_size=1, max_size=most))
    cell = data.draw(st.sampled_from(("-", " - "))).join(chosen)
    canonical = parse_clinical_cell(column, data.draw(st.sampled_from((cell, cell.lower(), f" {cell} "))))
    assert set(canonical.split("-")) == set(chosen)
    assert parse_clinical_cell(column, canonical) == canonical
    assert parse_clinical_cell(column, "-".join(reversed(chosen))) == canonical


@settings(deadline=None)
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
        read_csv(path)
    assert "\n" not in str(caught.value)


def test_csv_canonical_names_byte_order_mark_and_blank_lines(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffPatient ID,ROI mask-file  path\n\n1,"x\ny"\n\n'.encode())
    table = read_csv(path)
    assert table.columns == ("patient_id", "roi_mask_file_path")
    assert table.rows == ({"patient_id": "1", "roi_mask_file_path": "x\ny"},)
    with pytest.raises(TableError, match=r"Expected t\.csv to have column view, age"):
        table.require(["patient_id", "view", "age"])


def test_rows_become_a_table_with_every_column():
    table = build_lesion_table(
        [row(1, box=("1", "2", "3", "4"), film_path="f.dcm", lesion_paths=("a.dcm", "b.dcm")), row(2, split="test")]
    )
    assert list(table.frame.columns) == list(LESION_SCHEMA.columns)
    first, second = table.frame.iloc[0], table.frame.iloc[1]
    assert first["lesion_paths"] == ("a.dcm", "b.dcm")
    assert [first[name] for name in BOX_COLUMNS] == [1, 2, 3, 4]
    assert (first["label"], first["pathology"], first["breast_density"]) == (1, "MALIGNANT", "3")
    assert second["film_path"] is pd.NA
    assert second["mass_shape"] is pd.NA
    assert second["roi_x"] is pd.NA
    assert len(table.rejects) == len(table.excluded) == 0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"clinical": {"breast_density": "9"}}, "Expected breast_density='9' to be one of 1, 2, 3, 4."),
        ({"clinical": {"age": "7"}}, "Expected age='7' in [18, 100]."),
        ({"clinical": {"pathology": "?"}}, "Expected pathology='?' to be one of"),
        ({"patient_id": ""}, "Expected a patient_id, got an empty cell."),
        ({"split": "dev"}, "Expected split='dev' to be one of train, test."),
        ({"problem": "no image file"}, "no image file"),
        ({"box": ("1", "", "", "")}, "Expected roi_y=''"),
    ],
)
def test_bad_row_is_rejected_with_its_reason(changes, reason):
    table = build_lesion_table([row(1), row(2, **changes), row(3)])
    assert list(table.frame["lesion_id"]) == ["L_1", "L_3"]
    assert tuple(table.rejects.columns) == REJECT_COLUMNS
    rejected = table.rejects.iloc[0]
    assert (rejected["source"], rejected["row"], rejected["lesion_id"]) == ("table.csv", 2, "L_2")
    assert rejected["reason"].startswith(reason)
    assert table.reject_fraction == pytest.approx(1 / 3)


def test_first_of_identical_lesions_stays():
    table = build_lesion_table([row(1), row(2, patient_id="P_1", lesion_id="L_1")])
    assert list(table.frame["lesion_id"]) == ["L_1"]
    assert table.rejects[["row", "reason"]].to_numpy().tolist() == [[2, "duplicate lesion"]]


@pytest.mark.parametrize("changes", [{"patient_id": "P_9"}, {"patient_id": "P_1", "clinical": {"pathology": "BENIGN"}}])
def test_contradicting_duplicates_all_go(changes):
    table = build_lesion_table([row(1), row(2, lesion_id="L_1", **changes), row(3)])
    assert list(table.frame["lesion_id"]) == ["L_3"]
    assert list(table.rejects["row"]) == [1, 2]
    assert table.rejects["reason"].str.startswith("duplicate lesion with another").all()


@pytest.mark.parametrize("problem", [None, "no image file"])
def test_patient_of_the_test_split_leaves_the_training_side(problem):
    table = build_lesion_table([row(1, patient_id="P"), row(2, patient_id="P", split="test", problem=problem), row(3)])
    assert "L_1" not in set(table.frame["lesion_id"])
    assert table.excluded[["row", "patient_id", "reason"]].to_numpy().tolist() == [
        [1, "P", "patient is in the official test split"]
    ]
    assert len(table.rejects) == (problem is not None)


@settings(deadline=None, max_examples=40)
@given(
    cells=st.lists(
        st.tuples(st.sampled_from("ABC"), st.sampled_from("xyz"), st.sampled_from(["train", "test"]), st.booleans()),
        max_size=12,
    )
)
def test_every_row_ends_in_exactly_one_place_and_no_patient_on_two_sides(cells):
    rows = [
        row(i, patient_id=patient, lesion_id=lesion, split=split, problem="bad" if is_bad else None)
        for i, (patient, lesion, split, is_bad) in enumerate(cells, start=1)
    ]
    table = build_lesion_table(rows)
    assert len(table.frame) + len(table.rejects) + len(table.excluded) == len(rows)
    frame = table.frame
    sides = [set(frame.loc[frame["split"] == split, "patient_id"]) for split in ("train", "test")]
    assert sides[0].isdisjoint(sides[1])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"label": [0, 0]}, "label follows pathology"),
        ({"breast_density": ["9", "1"]}, "values of breast_density"),
        ({"mass_shape": ["OVAL-ROUND", None]}, "values of mass_shape"),
        ({"patient_id": ["P", "P"], "split": ["train", "test"]}, "one split per patient"),
        ({"lesion_id": ["L", "L"]}, "duplicate"),
        ({"roi_x": [1, None]}, "box whole or absent"),
        ({"lesion_paths": [["a"], ()]}, "_is_path_tuple"),
    ],
)
def test_an_invalid_table_cannot_exist(changes, match):
    table = build_lesion_table([row(1), row(2)])
    frame = table.frame.copy()
    for name, values in changes.items():
        frame[name] = pd.Series(values, dtype=frame[name].dtype)
    with pytest.raises(TableError, match=match) as caught:
        dataclasses.replace(table, frame=frame)
    assert "\n" not in str(caught.value)
    with pytest.raises(TableError, match="not in dataframe"):
        dataclasses.replace(table, frame=table.frame.drop(columns="view"))
    with pytest.raises(TableError, match="Expected excluded with columns source, row"):
        dataclasses.replace(table, excluded=frame)


def naive_encoding(cells, policy):
    numbers = []
    for column in columns_of(policy):
        cell = cells.get(column.name)
        if column.encoding is Encoding.ORDINAL:
            last = len(column.values) - 1
            numbers.append(0.0 if cell is None else -1 + 2 * column.values.index(cell) / last)
        else:
            for value in column.values:
                numbers.append(1.0 if cell is not None and value in cell.split("-") else 0.0)  # noqa: PERF401
    return numbers


@st.composite
def canonical_cells(draw):
    cells = {}
    for column in CLINICAL_COLUMNS:
        most = 1 if column.encoding is Encoding.ORDINAL else 3
        chosen = draw(st.sets(st.sampled_from(column.values), max_size=most))
        cells[column.name] = "-".join(v for v in column.values if v in chosen) or None
    return cells


@settings(deadline=None)
@given(rows=st.lists(canonical_cells(), min_size=1, max_size=4), policy=st.sampled_from(FeaturePolicy))
def test_encoding_equals_a_naive_loop(rows, policy):
    encoded = encode_clinical(pd.DataFrame(rows, dtype=pd.StringDtype()), policy)
    assert encoded.dtype == np.float32
    assert encoded.shape == (len(rows), clinical_width(policy))
    assert np.abs(encoded).max() <= 1
    np.testing.assert_allclose(encoded, [naive_encoding(cells, policy) for cells in rows], atol=1e-6)


def test_encoding_of_one_row_by_hand():
    table = build_lesion_table([row(1, clinical={"age": "59", "abnormality_type": "calcification"})])
    encoded = encode_clinical(table.frame, FeaturePolicy.SAFE)
    # Density 3 of 1 to 4, left, CC, calcification, 59 is the middle of 18 to 100, no family history recorded.
    np.testing.assert_allclose(encoded, [[1 / 3, -1, -1, 1, 0, 0]], atol=1e-6)


def test_encoding_without_rows_or_optional_columns():
    table = build_lesion_table([])
    assert encode_clinical(table.frame, FeaturePolicy.READER).shape == (0, clinical_width(FeaturePolicy.READER))
    frame = build_lesion_table([row(1)]).frame.drop(columns=["age", "family_history"])
    assert encode_clinical(frame, FeaturePolicy.SAFE).shape == (1, clinical_width(FeaturePolicy.SAFE))


def test_encoding_refuses_absent_columns_and_unknown_values():
    frame = build_lesion_table([row(1)]).frame
    with pytest.raises(TableError, match="have column view"):
        encode_clinical(frame.drop(columns="view"), FeaturePolicy.SAFE)
    with pytest.raises(TableError, match="view='XCCL'"):
        encode_clinical(frame.assign(view="XCCL"), FeaturePolicy.SAFE)


def rejecting_table():
    rejected = [row(2, problem="no image file"), row(3, problem="no image file"), row(4, split="?")]
    return build_lesion_table([row(1), *rejected, row(5, patient_id="P"), row(6, patient_id="P", split="test")])


def test_reject_limit_names_counts_and_most_common_reason():
    table = rejecting_table()
    check_rejects(table, 0.6)
    with pytest.raises(RejectLimitError, match=r"3 of 5 = 0\.6 <= max_fraction=0\.5; .*\(2 rows\): no image file$"):
        check_rejects(table, 0.5)
    check_rejects(build_lesion_table([]), 0.0)
    assert math.isclose(build_lesion_table([]).reject_fraction, 0)


def test_rejects_are_written_whole_and_for_the_owner_only(tmp_path):
    path = tmp_path / "out" / "rejects.csv"
    write_rejects(rejecting_table(), path)
    write_rejects(rejecting_table(), path)
    written = pd.read_csv(path)
    assert tuple(written.columns) == REJECT_COLUMNS
    assert list(written["row"]) == [2, 3, 4, 5]
    assert written["reason"].iloc[-1] == "patient is in the official test split"
    assert [entry.name for entry in path.parent.iterdir()] == ["rejects.csv"]
    assert path.stat().st_mode & 0o077 == 0


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "rejects.csv"
    path.write_text("old")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_rejects(rejecting_table(), path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["rejects.csv"]


def test_table_is_frozen():
    table = build_lesion_table([])
    assert isinstance(table, LesionTable)
    with pytest.raises(dataclasses.FrozenInstanceError, match="frame"):
        table.frame = None
