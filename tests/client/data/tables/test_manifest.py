import logging

import pandas as pd
import pytest

from client.data.tables.manifest import read_manifest
from shared_model.config.choices import ImageMode
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
    (tmp_path / "images" / "a.dcm").write_bytes(b"x")
    rows = [
        lesion("A", image_path="images/a.dcm", label=1, age=45.7, roi_x=1, roi_y=2, roi_w=3, roi_h=4),
        lesion("B", label=0, breast_density=3.0, mass_shape="OVAL-ROUND", lesion_id="mine"),
    ]
    for row in rows:
        row["breast_density"] = float(row["breast_density"])
    table = read_manifest(write(tmp_path, rows, suffix), image_mode=ImageMode.ROI)
    assert len(table.rejects) == 0
    first, second = table.frame.iloc[0], table.frame.iloc[1]
    assert (first["film_path"], first["lesion_paths"]) == ("images/a.dcm", ())
    assert (first["age"], first["roi_h"], first["label"], first["breast_density"]) == ("45", 4, 1, "2")
    assert (second["lesion_paths"], second["lesion_id"], second["label"]) == ((), "mine", 0)
    assert (second["mass_shape"], second["breast_density"]) == ("ROUND-OVAL", "3")
    for cell in (second["film_path"], first["pathology"], second["age"], second["roi_x"], second["family_history"]):
        assert cell is pd.NA


def test_rows_of_one_finding_may_be_named(tmp_path):
    rows = [lesion("A", label=1, finding_id=name, lesion_id=row) for row, name in (("a", "x"), ("b", "x "), ("c", ""))]
    frame = read_manifest(write(tmp_path, rows, ".csv"), image_mode=None).frame
    first, second, third = frame["finding_id"]
    assert first == second != third == "c"


def test_whole_number_identifiers_survive_missing_cells_in_parquet(tmp_path):
    rows = {"patient_id": pd.array([7, None], dtype="Int64"), "label": [1, 0], "split": ["train", "test"]}
    path = tmp_path / "m.parquet"
    pd.DataFrame(rows).to_parquet(path)
    table = read_manifest(path, image_mode=ImageMode.CROP)
    assert table.frame["patient_id"].tolist() == ["7"]
    assert table.rejects["reason"].tolist() == ["Expected a patient_id, got an empty cell."]


def test_text_that_stands_as_bytes_in_parquet(tmp_path):
    rows = {"patient_id": [b"0012", "M\u00fcller".encode()], "label": [1, 0], "split": [b"train", b"test"]}
    pd.DataFrame(rows).to_parquet(tmp_path / "m.parquet")
    table = read_manifest(tmp_path / "m.parquet", image_mode=None)
    assert table.frame["patient_id"].tolist() == ["0012", "M\u00fcller"]


@pytest.mark.parametrize(
    ("label", "expected"),
    [("1", 1), ("0.0", 0), ("malignant", 1), ("BENIGN", 0), ("BENIGN_WITHOUT_CALLBACK", 0)],
)
def test_labels(tmp_path, label, expected):
    table = read_manifest(write(tmp_path, [lesion(label=label)]), image_mode=ImageMode.CROP)
    assert table.frame["label"].tolist() == [expected]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": "2"}, "Expected label='2' to be one of 0, 1, MALIGNANT"),
        ({"label": ""}, "Expected label=''"),
        ({"split": "fold 3"}, "Expected split='fold 3' to be one of train, test."),
        ({"patient_id": ""}, "Expected a patient_id"),
        ({"image_path": "absent.dcm"}, "no image file"),
        ({"image_path": "x" * 5000}, "no image file"),
        ({"image_path": "manifest.csv/x.dcm"}, "no image file"),
        ({"image_path": "folder"}, "no image file"),
        ({"image_path": "loop"}, "no image file"),
        ({"image_path": "../secret.dcm"}, "path leaves the data root"),
        ({"image_path": "..\\secret.dcm"}, "path leaves the data root"),
        ({"image_path": "/etc/passwd"}, "path leaves the data root"),
        ({"image_path": "link.dcm"}, "path leaves the data root"),
        ({"image_path": "empty.dcm"}, "image file is empty (0 bytes)"),
        ({"roi_x": "1"}, "Expected roi_y=''"),
    ],
)
def test_bad_row_is_rejected(tmp_path, changes, reason):
    (tmp_path / "secret.dcm").touch()
    folder = tmp_path / "site"
    (folder / "folder").mkdir(parents=True)
    (folder / "empty.dcm").touch()
    (folder / "link.dcm").symlink_to(tmp_path / "secret.dcm")
    (folder / "loop").symlink_to(folder / "loop")
    table = read_manifest(write(folder, [lesion("A"), lesion("B", **changes)]), image_mode=ImageMode.CROP)
    assert table.frame["patient_id"].tolist() == ["A"]
    assert table.rejects["row"].tolist() == [2]
    assert table.rejects["reason"][0].startswith(reason)


def test_images_are_not_looked_up_unless_needed(tmp_path):
    rows = [lesion("A", image_path="absent.dcm"), lesion("B", image_path="../x.dcm")]
    table = read_manifest(write(tmp_path, rows), image_mode=None)
    assert table.frame["lesion_paths"].tolist() == [()]
    assert table.rejects["reason"].tolist() == ["path leaves the data root"]


def test_patient_in_both_splits_leaves_training(tmp_path):
    rows = [lesion("A"), lesion("A", split="Test", view="MLO"), lesion("B")]
    table = read_manifest(write(tmp_path, rows), image_mode=ImageMode.CROP)
    assert table.frame[["patient_id", "split"]].to_numpy().tolist() == [["A", "test"], ["B", "train"]]
    assert table.excluded["row"].tolist() == [1]
    assert len(table.rejects) == 0


def test_generated_identifiers_do_not_depend_on_the_other_rows(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.dcm").write_bytes(b"x")
    rows = [lesion("A", image_path="a.dcm"), lesion("A", image_path="b.dcm"), lesion("B"), lesion("B", view="MLO")]
    before = read_manifest(write(tmp_path, rows), image_mode=ImageMode.CROP).frame["lesion_id"].tolist()
    after = (
        read_manifest(write(tmp_path, [lesion("C"), *reversed(rows)]), image_mode=ImageMode.CROP)
        .frame["lesion_id"]
        .tolist()
    )
    assert after[1:] == before[::-1]
    assert len(set(before)) == 4


def test_same_image_is_the_same_lesion_but_lesions_without_image_are_not(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"x")
    box = {"roi_x": "1", "roi_y": "1", "roi_w": "5", "roi_h": "5"}
    other = box | {"roi_x": "9"}
    rows = [lesion("A", image_path="a.dcm", **cells) for cells in (box, box, other)]
    table = read_manifest(write(tmp_path, [*rows, lesion("B"), lesion("B")]), image_mode=ImageMode.ROI)
    assert table.rejects[["row", "reason"]].to_numpy().tolist() == [[2, "duplicate lesion"]]
    assert table.frame["patient_id"].tolist() == ["A", "A", "B", "B"]


class TestFilms:
    BOX = {"roi_x": "1", "roi_y": "1", "roi_w": "5", "roi_h": "5"}  # noqa: RUF012

    @pytest.fixture
    def table(self, tmp_path):
        (tmp_path / "a.dcm").write_bytes(b"x")
        rows = [
            lesion("A", image_path="a.dcm", **self.BOX),
            lesion("B", image_path="a.dcm", roi_x="", roi_y="", roi_w="", roi_h=""),
            lesion("C", image_path="absent.dcm", **self.BOX),
        ]
        return write(tmp_path, rows)

    @pytest.mark.parametrize(
        ("mode", "films", "reasons"),
        [
            (ImageMode.FILM, ["a.dcm", "a.dcm"], ["no image file: 'absent.dcm'"]),
            (ImageMode.ROI, ["a.dcm"], ["no box: data.image.mode=roi needs roi_x", "no image file: 'absent.dcm'"]),
        ],
    )
    def test_the_image_is_the_film(self, table, mode, films, reasons):
        read = read_manifest(table, image_mode=mode)
        assert read.frame["film_path"].tolist() == films
        assert read.frame["lesion_paths"].tolist() == [()] * len(films)
        assert [reason.startswith(start) for reason, start in zip(read.rejects["reason"], reasons, strict=True)]

    def test_a_box_is_refused_where_nothing_reads_it(self, table):
        read = read_manifest(table, image_mode=ImageMode.CROP)
        assert read.frame[["patient_id", "lesion_paths"]].to_numpy().tolist() == [["B", ("a.dcm",)]]
        first, second = read.rejects["reason"]
        assert first == "boxes need data.image.mode=roi, since they lie on the film; or leave roi_x to roi_h out"
        assert second.startswith("no image file: 'absent.dcm' in ")


def test_an_unreadable_optional_cell_costs_the_cell_and_not_the_lesion(tmp_path):
    rows = [lesion("A", breast_density="9", age="12"), lesion("B", view="XCCL"), lesion("C")]
    table = read_manifest(write(tmp_path, rows), image_mode=None)
    assert table.frame["patient_id"].tolist() == ["A", "B", "C"]
    assert table.frame["breast_density"].isna().tolist() == [True, False, False]
    assert table.unreadable[["row", "patient_id", "reason"]].to_numpy().tolist() == [
        [1, "A", "kept, the cell taken as missing: Expected age='12' in [18, 100]."],
        [1, "A", "kept, the cell taken as missing: Expected breast_density='9' to be one of 1, 2, 3, 4."],
        [2, "B", "kept, the cell taken as missing: Expected view='XCCL' to be one of CC, MLO."],
    ]


def test_a_path_from_the_root_of_the_disk_into_the_folder(tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"x")
    table = read_manifest(write(tmp_path, [lesion(image_path=str(tmp_path / "a.dcm"))]), image_mode=ImageMode.CROP)
    assert table.frame["lesion_paths"].tolist() == [("a.dcm",)]


class TestFindings:
    def test_numbers_that_begin_again_in_the_other_breast_or_type(self, tmp_path):
        kinds = [("LEFT", "mass"), ("RIGHT", "mass"), ("LEFT", "calcification")]
        rows = [
            lesion("A", finding_id="1", laterality=side, abnormality_type=kind, view=view)
            for side, kind in kinds
            for view in ("CC", "MLO")
        ]
        findings = read_manifest(write(tmp_path, rows), image_mode=None).frame["finding_id"].tolist()
        assert findings[::2] == findings[1::2]
        assert len(set(findings)) == len(kinds)

    @pytest.mark.parametrize(("one", "other"), [("1", "1.0"), ("1", "01"), ("Mass 1", "MASS1"), ("1", '="1"')])
    def test_spellings_of_one_number(self, tmp_path, one, other):
        rows = [lesion("A", finding_id=number, view=view) for number, view in ((one, "CC"), (other, "MLO"))]
        findings = read_manifest(write(tmp_path, [*rows, lesion("A", finding_id="2")]), image_mode=None).frame
        first, second, third = findings["finding_id"]
        assert first == second != third

    def test_one_with_two_outcomes_is_nobodys_to_decide(self, tmp_path):
        rows = [lesion("A", finding_id="1", label=label, view=view) for label, view in (("1", "CC"), ("0", "MLO"))]
        table = read_manifest(
            write(tmp_path, [*rows, lesion("A", finding_id="2"), lesion("B", finding_id="1")]), image_mode=None
        )
        assert table.rejects["row"].tolist() == [1, 2]
        assert set(table.rejects["reason"]) == {
            "finding with two outcomes: its views say benign and malignant; correct label or finding_id"
        }
        assert table.frame["patient_id"].tolist() == ["A", "B"]


class TestIdentifiers:
    def test_spellings_of_a_spreadsheet_are_one_patient(self, tmp_path):
        names = ["00012", "12", " 12.0", "0012"]
        rows = [lesion(name, view=view, lesion_id=str(number)) for number, name in enumerate(names) for view in ["CC"]]
        table = read_manifest(write(tmp_path, [*rows, lesion("P 7"), lesion("p7", split="test")]), image_mode=None)
        assert table.frame["patient_id"].tolist() == ["00012"] * 4 + ["P 7"]
        assert table.frame["split"].tolist() == ["train"] * 4 + ["test"]
        assert table.respelt == {"00012", "P 7"}
        assert table.excluded["row"].tolist() == [5]

    def test_an_identifier_kept_as_text_is_that_of_a_table_without(self, tmp_path):
        rows = [lesion(name, lesion_id=str(number)) for number, name in enumerate(['="0012"', "'0012", "12"])]
        table = read_manifest(write(tmp_path, rows), image_mode=None)
        assert table.frame["patient_id"].nunique() == 1

    def test_a_number_that_lost_its_digits_is_nobody(self, tmp_path):
        table = read_manifest(write(tmp_path, [lesion("1E+05"), lesion("1,23E+11"), lesion("B")]), image_mode=None)
        assert table.frame["patient_id"].tolist() == ["B"]
        assert all("store the column as text" in reason for reason in table.rejects["reason"])


def test_a_validation_split_stands_on_the_training_side_and_is_said(tmp_path, caplog):
    rows = [lesion("A", split="Training"), lesion("B", split="val"), lesion("C", split="TEST")]
    table = read_manifest(write(tmp_path, rows), image_mode=None)
    assert table.frame["split"].tolist() == ["train", "train", "test"]
    assert "1 rows of a validation split stand on the training side" in caplog.text


@pytest.mark.parametrize("column", ["patient_id", "label", "split"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_required_columns(tmp_path, column, suffix):
    row = {name: cell for name, cell in lesion().items() if name != column}
    with pytest.raises(TableError, match=rf"^Expected manifest\{suffix} to have column {column}\.$"):
        read_manifest(write(tmp_path, [row], suffix), image_mode=ImageMode.CROP)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("m.csv", b"", r"Expected a header in m\.csv"),
        ("m.csv", b"PAR1\xff\xfe", r"Expected a readable CSV file m\.csv: got a Parquet file; name it \.parquet"),
        ("m.csv", b"PK\x03\x04\x14", r"m\.csv: got a workbook \(\.xlsx, \.ods\); open it in its program and save it"),
        ("m.parquet", b"patient_id,label,split\n", r"Expected a readable Parquet file m\.parquet"),
        ("m.parquet", b"", r"Expected a readable Parquet file m\.parquet"),
        ("m.parquet", b"PAR1" + b"\x00" * 40 + b"PAR1", r"Expected a readable Parquet file m\.parquet"),
        ("m.xlsx", b"", r"Expected the manifest m\.xlsx to end in \.csv, .*\.parquet; save a workbook as CSV UTF-8"),
        ("m.csv", None, r"Expected a readable CSV file m\.csv"),
        ("m.parquet", None, r"Expected a readable Parquet file m\.parquet"),
    ],
)
def test_malformed_file_is_one_line(tmp_path, name, content, match):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=match) as caught:
        read_manifest(tmp_path / name, image_mode=ImageMode.CROP)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table_without_rows(tmp_path, suffix):
    path = tmp_path / f"manifest{suffix}"
    empty = pd.DataFrame({"patient_id": [], "label": [], "split": []})
    empty.to_csv(path, index=False) if suffix == ".csv" else empty.to_parquet(path)
    assert len(read_manifest(path, image_mode=ImageMode.CROP).frame) == 0


def test_unused_and_absent_columns_are_logged(tmp_path, caplog):
    row = lesion(brest_density="2")
    del row["breast_density"]
    with caplog.at_level(logging.WARNING):
        read_manifest(write(tmp_path, [row]), image_mode=ImageMode.CROP)
    assert "columns not used: brest_density (is it breast_density?)" in caplog.text
    assert "missing in every row: breast_density" in caplog.text


def test_half_a_name_is_recognised(tmp_path, caplog):
    row = {name: cell for name, cell in lesion().items() if name != "image_path"}
    with caplog.at_level(logging.WARNING):
        read_manifest(write(tmp_path, [{**row, "image": "a.dcm"}]), image_mode=None)
    assert "columns not used: image (is it image_path?)" in caplog.text
