"""Rows of a lesion table: usable, rejected with a reason, or excluded; each row ends in one place."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from client.data.tables.cells import BOX_COLUMNS
from client.data.tables.lesion_schema import LESION_SCHEMA
from client.data.tables.lesion_table import (
    PARTS,
    LesionTable,
    build_lesion_table,
    check_rejects,
)
from client.data.tables.rejects import REJECT_COLUMNS, kinds, write_rejects
from shared_model.errors import RejectLimitError, TableError

NO_BOX, NO_ROWS = ("", "", "", ""), np.array([], dtype=np.int64)


def test_rows_become_a_table_with_every_column(row):
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
        ({"clinical": {"pathology": "?"}}, "Expected pathology='?' to be one of"),
        ({"patient_id": ""}, "Expected a patient_id, got an empty cell."),
        ({"split": "dev"}, "Expected split='dev' to be one of train, test."),
        ({"problem": "no image file"}, "no image file"),
        ({"box": ("1", "", "", "")}, "Expected roi_y=''"),
    ],
)
def test_bad_row_is_rejected_with_its_reason(row, changes, reason):
    table = build_lesion_table([row(1), row(2, **changes), row(3)])
    assert list(table.frame["lesion_id"]) == ["L_1", "L_3"]
    assert tuple(table.rejects.columns) == REJECT_COLUMNS
    rejected = table.rejects.iloc[0]
    assert (rejected["source"], rejected["row"], rejected["lesion_id"]) == ("table.csv", 2, "L_2")
    assert rejected["reason"].startswith(reason)
    assert table.reject_fraction == pytest.approx(1 / 3)


def test_first_of_identical_lesions_stays(row):
    table = build_lesion_table([row(1), row(2, patient_id="P_1", lesion_id="L_1")])
    assert list(table.frame["lesion_id"]) == ["L_1"]
    assert table.rejects[["row", "reason"]].to_numpy().tolist() == [[2, "duplicate lesion"]]


@pytest.mark.parametrize("patient", ["P_1", "p_1", "P_0001"])
def test_duplicates_of_a_patient_that_contradict_each_other_all_go(row, patient):
    changes = {"patient_id": patient, "clinical": {"pathology": "BENIGN"}}
    table = build_lesion_table([row(1), row(2, lesion_id="L_1", **changes), row(3), row(4, patient_id=patient)])
    assert list(table.frame["lesion_id"]) == ["L_3", "L_4"]
    assert list(table.rejects["row"]) == [1, 2]
    assert (table.rejects["reason"] == "duplicate lesion with another outcome").all()


def test_a_lesion_of_two_patients_is_one_of_each_and_listed(row):
    """Were it rejected, adding a patient would remove another's lesion: removing her would show in the sum."""
    table = build_lesion_table([row(1), row(2, lesion_id="L_1", clinical={"pathology": "BENIGN"}), row(3)])
    assert list(zip(table.frame["patient_id"], table.frame["lesion_id"], strict=True)) == [
        ("P_1", "L_1"), ("P_2", "L_1"), ("P_3", "L_3"),
    ]  # fmt: skip
    assert len(table.rejects) == 0
    assert table.contested == {"L_1"}
    # Two spellings of one patient's identifier are no dispute.
    assert build_lesion_table([row(1), row(2, patient_id="p_01", lesion_id="L_1")]).contested == frozenset()


@pytest.mark.parametrize("problem", [None, "no image file"])
def test_patient_of_the_test_split_leaves_the_training_side(row, problem):
    table = build_lesion_table([row(1, patient_id="P"), row(2, patient_id="P", split="test", problem=problem), row(3)])
    assert "L_1" not in set(table.frame["lesion_id"])
    assert table.excluded[["row", "patient_id", "reason"]].to_numpy().tolist() == [
        [1, "P", "patient is in the official test split"]
    ]
    assert len(table.rejects) == (problem is not None)


@settings(max_examples=40)
@given(
    cells=st.lists(
        st.tuples(st.sampled_from("ABC"), st.sampled_from("xyz"), st.sampled_from(["train", "test"]), st.booleans()),
        max_size=12,
    )
)
def test_every_row_ends_in_exactly_one_place_and_no_patient_on_two_sides(row, cells):
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
        ({"patient_id": ["P", "P"], "lesion_id": ["L", "L"]}, "not unique"),
        ({"roi_x": [1, None]}, "box whole or absent"),
        ({"lesion_paths": [["a"], ()]}, "_are_path_tuples"),
    ],
)
def test_an_invalid_table_cannot_exist(row, changes, match):
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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.booleans(), min_size=6, max_size=6))
def test_every_part_of_a_table_is_a_valid_table(row, is_kept):
    """Of patients with several lesions, both sides of the split, boxes and missing cells."""
    rows = [
        row(
            i,
            patient_id=f"P{i // 2}",
            split=("train", "test")[i // 2 % 2],
            box=("1", "2", "3", "4") if i % 2 else NO_BOX,
        )
        for i in range(1, 7)
    ]
    table = build_lesion_table([*rows, row(8, problem="bad"), row(9, problem="bad")])
    chosen = {"frame": np.flatnonzero(is_kept), "rejects": np.array([1]), "excluded": NO_ROWS, "unreadable": NO_ROWS}
    part = table.part(chosen, respelt=frozenset())
    LESION_SCHEMA.validate(part.frame)
    pd.testing.assert_frame_equal(part.frame, table.frame[is_kept].reset_index(drop=True))
    assert list(part.rejects["row"]) == [9]
    assert list(dataclasses.replace(part).frame.columns) == list(table.frame.columns)


@pytest.mark.parametrize("rows", [[1, 0], [0, 0]])
def test_a_part_has_its_rows_in_order_and_each_once(row, rows):
    table = build_lesion_table([row(1), row(2)])
    with pytest.raises(ValueError, match="Expected rows of frame in order and each once"):
        table.part(dict.fromkeys(PARTS, np.array(rows)), respelt=frozenset())


def test_further_rejects_stand_among_the_others_by_row(row):
    table = build_lesion_table([row(1), row(2, problem="bad"), row(9, problem="bad")])
    added = table.with_rejects([("t.csv", 5, "P_5", "L_5", "unknown")])
    assert sorted(added.rejects["row"]) == [2, 5, 9]
    assert list(added.rejects["reason"].value_counts().index) == ["bad", "unknown"]
    assert table.with_rejects([]) is table
    assert len(table.rejects) == 2


@pytest.fixture
def rejecting_table(row):
    rejected = [row(2, problem="no image file"), row(3, problem="no image file"), row(4, split="?")]
    return build_lesion_table([row(1), *rejected, row(5, patient_id="P"), row(6, patient_id="P", split="test")])


def test_reject_limit_names_counts_and_most_common_reason(rejecting_table):
    table = rejecting_table
    check_rejects(table, 0.6)
    with pytest.raises(
        RejectLimitError, match=r"3 of 5 = 0\.6 <= max_fraction=0\.5; .*\(2 rows, patients P_2, P_3\): no image file$"
    ):
        check_rejects(table, 0.5)
    check_rejects(build_lesion_table([]), 0.0)
    assert math.isclose(build_lesion_table([]).reject_fraction, 0)


def test_rejects_are_written_whole_and_for_the_owner_only(rejecting_table, tmp_path):
    path = tmp_path / "out" / "rejects.csv"
    write_rejects([rejecting_table.rejects, rejecting_table.excluded], path)
    write_rejects([rejecting_table.rejects, rejecting_table.excluded], path)
    written = pd.read_csv(path)
    assert tuple(written.columns) == REJECT_COLUMNS
    assert list(written["row"]) == [2, 3, 4, 5]
    assert written["reason"].iloc[-1] == "patient is in the official test split"
    assert [entry.name for entry in path.parent.iterdir()] == ["rejects.csv"]
    assert path.stat().st_mode & 0o077 == 0


def test_failed_write_leaves_the_old_file(rejecting_table, tmp_path, monkeypatch):
    path = tmp_path / "rejects.csv"
    path.write_text("old")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_rejects([rejecting_table.rejects, rejecting_table.excluded], path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["rejects.csv"]


def test_table_is_frozen():
    table = build_lesion_table([])
    assert isinstance(table, LesionTable)
    with pytest.raises(dataclasses.FrozenInstanceError, match="frame"):
        table.frame = None


def test_kinds_of_reasons_are_counted_and_not_their_texts():
    reasons = [f"/data/a b/{number}.dcm: Expected Rows (0028,0010)={number} in [1, 20000]." for number in range(3)]
    reasons += ["no image file", "Expected label='2' to be one of 0, 1.", "Expected label='it\\'s' to be one of 0, 1."]
    assert [(kind.num_rows, kind.example) for kind in kinds(reasons)] == [
        (3, reasons[0]), (2, "Expected label='2' to be one of 0, 1."), (1, "no image file"),
    ]  # fmt: skip


def test_cells_of_the_file_are_no_formulas_and_do_not_reach_the_terminal(row, tmp_path):
    names = ["=HYPERLINK(1)", "+1+1", "@x", "-2+3", "\tP", "P\x1b[2J\x00"]
    table = build_lesion_table([row(i, patient_id=name, split="?") for i, name in enumerate(names, start=1)])
    write_rejects([table.rejects], tmp_path / "rejects.csv")
    text = (tmp_path / "rejects.csv").read_text()
    assert text.replace("\n", "").isprintable()
    written = pd.read_csv(tmp_path / "rejects.csv")["patient_id"]
    assert list(written) == ["'=HYPERLINK(1)", "'+1+1", "'@x", "'-2+3", " P", "P [2J "]
