import logging

import pandas as pd
import pytest

from client.data.tables.manifest import read_manifest
from shared_model.errors import TableError

CLINICAL = {"breast_density": "2", "laterality": "LEFT", "view": "CC", "abnormality_type": "mass"}


def lesion(patient="A", **changes):
    return {"patient_id": patient, "label": "1", "split": "train", "image_path": ""} | CLINICAL | changes


def write(folder, rows, suffix=".csv"):
    path = folder / f"manifest{suffix}"
    frame = pd.DataFrame(rows)
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_of_either_format(tmp_path, suffix):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.dcm").touch()
    rows = [
        lesion("A", image_path="images/a.dcm", label=1, age=45.7, roi_x=1, roi_y=2, roi_w=3, roi_h=4),
        lesion("B", label=0, breast_density=3.0, mass_shape="OVAL-ROUND", lesion_id="mine"),
    ]
    for row in rows:
        row["breast_density"] = float(row["breast_density"])
    table = read_manifest(write(tmp_path, rows, suffix), needs_image=True)
    assert len(table.rejects) == 0
    first, second = table.frame.iloc[0], table.frame.iloc[1]
    assert first["lesion_paths"] == ("images/a.dcm",)
    assert (first["age"], first["roi_h"], first["label"], first["breast_density"]) == ("45", 4, 1, "2")
    assert (second["lesion_paths"], second["lesion_id"], second["label"]) == ((), "mine", 0)
    assert (second["mass_shape"], second["breast_density"]) == ("ROUND-OVAL", "3")
    for cell in (first["film_path"], first["pathology"], second["age"], second["roi_x"], second["family_history"]):
        assert cell is pd.NA


def test_rows_of_one_finding_may_be_named(tmp_path):
    rows = [lesion("A", label=1, finding_id=name, lesion_id=row) for row, name in (("a", "x"), ("b", "x "), ("c", ""))]
    frame = read_manifest(write(tmp_path, rows, ".csv"), needs_image=False).frame
    assert frame["finding_id"].to_list() == ["x", "x", "c"]


def test_whole_number_identifiers_survive_missing_cells_in_parquet(tmp_path):
    rows = {"patient_id": pd.array([7, None], dtype="Int64"), "label": [1, 0], "split": ["train", "test"]}
    path = tmp_path / "m.parquet"
    pd.DataFrame(rows).to_parquet(path)
    table = read_manifest(path, needs_image=True)
    assert table.frame["patient_id"].tolist() == ["7"]
    assert table.rejects["reason"].tolist() == ["Expected a patient_id, got an empty cell."]


@pytest.mark.parametrize(
    ("label", "expected"),
    [("1", 1), ("0.0", 0), ("malignant", 1), ("BENIGN", 0), ("BENIGN_WITHOUT_CALLBACK", 0)],
)
def test_labels(tmp_path, label, expected):
    table = read_manifest(write(tmp_path, [lesion(label=label)]), needs_image=True)
    assert table.frame["label"].tolist() == [expected]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": "2"}, "Expected label='2' to be one of 0, 1, MALIGNANT"),
        ({"label": ""}, "Expected label=''"),
        ({"split": "validation"}, "Expected split='validation' to be one of train, test."),
        ({"patient_id": ""}, "Expected a patient_id"),
        ({"age": "12"}, "Expected age='12' in [18, 100]."),
        ({"view": "ML"}, "Expected view='ML' to be one of CC, MLO."),
        ({"image_path": "absent.dcm"}, "no image file"),
        ({"image_path": "x" * 5000}, "no image file"),
        ({"image_path": "manifest.csv/x.dcm"}, "no image file"),
        ({"image_path": "folder"}, "no image file"),
        ({"image_path": "loop"}, "no image file"),
        ({"image_path": "../secret.dcm"}, "path leaves the data root"),
        ({"image_path": "..\\secret.dcm"}, "path leaves the data root"),
        ({"image_path": "/etc/passwd"}, "path leaves the data root"),
        ({"image_path": "link.dcm"}, "path leaves the data root"),
        ({"roi_x": "1"}, "Expected roi_y=''"),
    ],
)
def test_bad_row_is_rejected(tmp_path, changes, reason):
    (tmp_path / "secret.dcm").touch()
    folder = tmp_path / "site"
    (folder / "folder").mkdir(parents=True)
    (folder / "link.dcm").symlink_to(tmp_path / "secret.dcm")
    (folder / "loop").symlink_to(folder / "loop")
    table = read_manifest(write(folder, [lesion("A"), lesion("B", **changes)]), needs_image=True)
    assert table.frame["patient_id"].tolist() == ["A"]
    assert table.rejects["row"].tolist() == [2]
    assert table.rejects["reason"][0].startswith(reason)


def test_images_are_not_looked_up_unless_needed(tmp_path):
    rows = [lesion("A", image_path="absent.dcm"), lesion("B", image_path="../x.dcm")]
    table = read_manifest(write(tmp_path, rows), needs_image=False)
    assert table.frame["lesion_paths"].tolist() == [()]
    assert table.rejects["reason"].tolist() == ["path leaves the data root"]


def test_patient_in_both_splits_leaves_training(tmp_path):
    rows = [lesion("A"), lesion("A", split="Test", view="MLO"), lesion("B")]
    table = read_manifest(write(tmp_path, rows), needs_image=True)
    assert table.frame[["patient_id", "split"]].to_numpy().tolist() == [["A", "test"], ["B", "train"]]
    assert table.excluded["row"].tolist() == [1]
    assert len(table.rejects) == 0


def test_generated_identifiers_do_not_depend_on_the_other_rows(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.dcm").touch()
    rows = [lesion("A", image_path="a.dcm"), lesion("A", image_path="b.dcm"), lesion("B"), lesion("B", view="MLO")]
    before = read_manifest(write(tmp_path, rows), needs_image=True).frame["lesion_id"].tolist()
    after = read_manifest(write(tmp_path, [lesion("C"), *reversed(rows)]), needs_image=True).frame["lesion_id"].tolist()
    assert after[1:] == before[::-1]
    assert len(set(before)) == 4


def test_same_image_is_the_same_lesion_but_lesions_without_image_are_not(tmp_path):
    (tmp_path / "a.dcm").touch()
    box = {"roi_x": "1", "roi_y": "1", "roi_w": "5", "roi_h": "5"}
    rows = [lesion("A", image_path="a.dcm"), lesion("A", image_path="a.dcm"), lesion("A", image_path="a.dcm", **box)]
    table = read_manifest(write(tmp_path, [*rows, lesion("B"), lesion("B")]), needs_image=True)
    assert table.rejects[["row", "reason"]].to_numpy().tolist() == [[2, "duplicate lesion"]]
    assert table.frame["patient_id"].tolist() == ["A", "A", "B", "B"]


@pytest.mark.parametrize("column", ["patient_id", "label", "split"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_required_columns(tmp_path, column, suffix):
    row = {name: cell for name, cell in lesion().items() if name != column}
    with pytest.raises(TableError, match=rf"^Expected manifest\{suffix} to have column {column}\.$"):
        read_manifest(write(tmp_path, [row], suffix), needs_image=True)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("m.csv", b"", r"Expected a header in m\.csv"),
        ("m.csv", b"PAR1\xff\xfe", r"Expected a readable CSV file m\.csv"),
        ("m.parquet", b"patient_id,label,split\n", r"Expected a readable Parquet file m\.parquet"),
        ("m.parquet", b"", r"Expected a readable Parquet file m\.parquet"),
        ("m.parquet", b"PAR1" + b"\x00" * 40 + b"PAR1", r"Expected a readable Parquet file m\.parquet"),
        ("m.xlsx", b"", r"Expected the manifest m\.xlsx to end in \.csv or \.parquet"),
        ("m.csv", None, r"Expected a readable CSV file m\.csv"),
        ("m.parquet", None, r"Expected a readable Parquet file m\.parquet"),
    ],
)
def test_malformed_file_is_one_line(tmp_path, name, content, match):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=match) as caught:
        read_manifest(tmp_path / name, needs_image=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table_without_rows(tmp_path, suffix):
    path = tmp_path / f"manifest{suffix}"
    empty = pd.DataFrame({"patient_id": [], "label": [], "split": []})
    empty.to_csv(path, index=False) if suffix == ".csv" else empty.to_parquet(path)
    assert len(read_manifest(path, needs_image=True).frame) == 0


def test_unused_and_absent_columns_are_logged(tmp_path, caplog):
    row = lesion(brest_density="2")
    del row["breast_density"]
    with caplog.at_level(logging.WARNING):
        read_manifest(write(tmp_path, [row]), needs_image=True)
    assert "columns not used: brest_density" in caplog.text
    assert "missing in every row: breast_density" in caplog.text
