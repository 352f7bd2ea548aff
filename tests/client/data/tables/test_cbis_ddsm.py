import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.data.tables.cbis_ddsm import read_cbis_ddsm
from client.data.tables.cbis_ddsm_files import index_images
from client.identifiers import folded_or_none
from shared_model.config.choices import ImageMode
from shared_model.errors import TableError
from shared_model.vocabulary import LesionType
from tests.real_data import CBIS_DDSM

MASS = (LesionType.MASS,)
BOTH = tuple(LesionType)

COMMON = ["patient_id", "left or right breast", "image view", "abnormality id", "abnormality type", "assessment"]
PATHS = ["image file path", "cropped image file path", "ROI mask file path"]
HEADERS = {
    "mass": [*COMMON, "breast_density", "mass shape", "mass margins", "pathology", "subtlety", *PATHS],
    "calc": [*COMMON, "breast density", "calc type", "calc distribution", "pathology", "subtlety", *PATHS],
}


def case(patient="P_00001", *, kind="mass", split="Training", side="LEFT", view="CC", number="1", **changes):
    subject = f"{kind.capitalize()}-{split}_{patient}_{side}_{view}"
    cells = {
        "patient_id": patient,
        "left or right breast": side,
        "image view": view,
        "abnormality id": number,
        "abnormality type": "mass" if kind == "mass" else "calcification",
        "assessment": "4",
        "pathology": "MALIGNANT",
        "subtlety": "3",
        "image file path": f"{subject}/1.0/1.1/000000.dcm",
        "cropped image file path": f"{subject}_{number}/2.0/2.1/000000.dcm",
        "ROI mask file path": f"{subject}_{number}/2.0/2.2/000001.dcm\n",
    }
    own = {"breast_density": "2", "mass shape": "OVAL-ROUND", "mass margins": "N/A"}
    if kind == "calc":
        own = {"breast density": "0", "calc type": "PLEOMORPHIC", "calc distribution": ""}
    return cells | own | changes


def write_table(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)


def write_tables(root, *, mass_train=(), mass_test=(), calc_train=(), calc_test=()):
    root.mkdir(exist_ok=True)
    write_table(root / "mass_case_description_train_set.csv", HEADERS["mass"], mass_train)
    write_table(root / "mass_case_description_test_set.csv", HEADERS["mass"], mass_test)
    write_table(root / "calc_case_description_train_set.csv", HEADERS["calc"], calc_train)
    write_table(root / "calc_case_description_test_set.csv", HEADERS["calc"], calc_test)
    return root


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


SUBJECT = "Mass-Training_P_00001_LEFT_CC"
CLASSIC = {
    "film": f"{SUBJECT}/1.0/1.1/1-1.dcm",
    "lesion": (f"{SUBJECT}_1/2.0/2.1/1-1.dcm", f"{SUBJECT}_1/2.0/2.2/1-2.dcm"),
}
STUDY = "07-20-2016-DDSM-93921"
NEWER = {
    "film": f"{SUBJECT}/{STUDY}/1.000000-full mammogram images-21711/1-1.dcm",
    "lesion": (
        f"{SUBJECT}_1/{STUDY}/1.000000-ROI mask images-18013/1-1.dcm",
        f"{SUBJECT}_1/{STUDY}/1.000000-ROI mask images-18013/1-2.dcm",
    ),
}


@pytest.mark.parametrize("below", ["", "CBIS-DDSM/", "manifest-1573071592985/CBIS-DDSM/"])
@pytest.mark.parametrize("layout", [CLASSIC, NEWER], ids=["classic", "newer"])
def test_files_are_found_in_both_layouts_and_levels_down(tmp_path, layout, below):
    root = write_tables(tmp_path / "data", mass_train=[case()])
    film, lesion = below + layout["film"], tuple(below + path for path in layout["lesion"])
    touch(*(root / path for path in (film, *lesion)), root / below / f"{SUBJECT}_1" / "LICENSE")
    row = read_cbis_ddsm(root, lesion_types=MASS, image_mode=ImageMode.CROP).frame.iloc[0]
    assert row["film_path"] == film
    assert row["lesion_paths"] == lesion
    assert row["lesion_id"] == f"{SUBJECT}_1"


def test_the_views_of_a_lesion_show_one_finding(tmp_path):
    views = [case(), case(view="MLO"), case(number="2"), case(side="RIGHT")]
    root = write_tables(tmp_path, mass_train=views)
    frame = read_cbis_ddsm(root, lesion_types=MASS, image_mode=None).frame
    assert frame["lesion_id"].nunique() == 4
    first, second, other_number, other_side = frame["finding_id"]
    assert first == second
    assert len({first, other_number, other_side}) == 3


def test_files_of_the_named_series_are_preferred(tmp_path):
    root = write_tables(tmp_path, mass_train=[case()])
    touch(*(root / path for path in CLASSIC["lesion"]), root / f"{SUBJECT}_1/9.0/9.9/1-1.dcm")
    row = read_cbis_ddsm(root, lesion_types=MASS, image_mode=ImageMode.CROP).frame.iloc[0]
    assert row["lesion_paths"] == CLASSIC["lesion"]


def test_crop_and_mask_may_lie_in_different_subject_folders(tmp_path):
    other = "Mass-Training_P_00001_LEFT_CC_2"
    root = write_tables(tmp_path, mass_train=[case(**{"ROI mask file path": f"{other}/2.0/2.2/000001.dcm"})])
    touch(root / f"{SUBJECT}_1/x/1-1.dcm", root / f"{other}/x/1-1.DCM")
    row = read_cbis_ddsm(root, lesion_types=MASS, image_mode=ImageMode.CROP).frame.iloc[0]
    assert row["lesion_paths"] == (f"{SUBJECT}_1/x/1-1.dcm", f"{other}/x/1-1.DCM")


def test_cells_of_both_tables_become_canonical(tmp_path):
    root = write_tables(tmp_path, mass_train=[case()], calc_test=[case("P_00002", kind="calc", split="Test")])
    frame = read_cbis_ddsm(root, lesion_types=BOTH, image_mode=None).frame.set_index("lesion_id")
    mass, calc = frame.loc[f"{SUBJECT}_1"], frame.loc["Calc-Test_P_00002_LEFT_CC_1"]
    assert (mass["mass_shape"], mass["breast_density"], mass["split"]) == ("ROUND-OVAL", "2", "train")
    assert (calc["calc_type"], calc["abnormality_type"], calc["split"]) == ("PLEOMORPHIC", "calcification", "test")
    for cell in (mass["mass_margins"], mass["calc_type"], calc["breast_density"], calc["mass_shape"], mass["age"]):
        assert str(cell) == "<NA>"
    assert mass["lesion_paths"] == ()


def test_a_row_without_any_file_is_rejected_when_images_are_needed(tmp_path):
    root = write_tables(tmp_path, mass_train=[case(), case("P_00002")])
    touch(root / CLASSIC["film"])
    crops = read_cbis_ddsm(root, lesion_types=MASS, image_mode=ImageMode.CROP)
    assert list(crops.frame["patient_id"]) == []
    assert list(crops.rejects["row"]) == [1, 2]
    assert crops.rejects["reason"].str.startswith("no image file: no folder").all()


@pytest.mark.parametrize("mode", [ImageMode.ROI, ImageMode.FILM])
def test_a_lesion_without_its_film_is_rejected_where_films_are_read(tmp_path, mode):
    """Its crop is there; a network would have been trained on nothing."""
    root = write_tables(tmp_path, mass_train=[case(), case("P_00002")])
    other = [path.replace("P_00001", "P_00002") for path in CLASSIC["lesion"]]
    touch(*(root / path for path in (CLASSIC["film"], *CLASSIC["lesion"], *other)))
    table = read_cbis_ddsm(root, lesion_types=MASS, image_mode=mode)
    assert list(table.frame["film_path"]) == [CLASSIC["film"]]
    assert table.rejects[["source", "row", "patient_id"]].to_numpy().tolist() == [
        ["mass_case_description_train_set.csv", 2, "P_00002"]
    ]
    assert table.rejects["reason"][0].startswith(f"no image file: data.image.mode={mode} needs the film; no folder")
    assert "3 of 4 subject folders were found" in table.rejects["reason"][0]


def test_an_empty_file_is_a_reject_that_says_so(tmp_path):
    root = write_tables(tmp_path, mass_train=[case()])
    touch(*(root / path for path in CLASSIC["lesion"]))
    (root / CLASSIC["lesion"][0]).write_bytes(b"")
    table = read_cbis_ddsm(root, lesion_types=MASS, image_mode=ImageMode.CROP)
    assert list(table.rejects["reason"]) == [f"image file is empty (0 bytes): {CLASSIC['lesion'][0]!r}"]


def test_tables_in_a_folder_of_their_own_and_in_another_case(tmp_path):
    root = write_tables(tmp_path, mass_train=[case()])
    (root / "csv").mkdir()
    for path in root.glob("*.csv"):
        path.rename(root / "csv" / path.name.title())
    assert len(read_cbis_ddsm(root, lesion_types=MASS, image_mode=None).frame) == 1


@pytest.mark.parametrize("image_mode", [None, *ImageMode])
@pytest.mark.parametrize("column", PATHS)
@pytest.mark.parametrize(
    "cell", ["../../etc/passwd", "/etc/passwd", f"{SUBJECT}_1/../../x/1-1.dcm", "C:\\secret\\x.dcm", "..\\..\\x.dcm"]
)
def test_hostile_cell_is_rejected(tmp_path, column, cell, image_mode):
    root = write_tables(tmp_path, mass_train=[case(**{column: cell})])
    touch(*(root / path for path in CLASSIC["lesion"]))
    table = read_cbis_ddsm(root, lesion_types=MASS, image_mode=image_mode)
    assert list(table.rejects["reason"]) == ["path leaves the data root"]


def test_path_of_another_patient_is_rejected(tmp_path):
    foreign = {name: cell.replace("P_00001", "P_00002") for name, cell in case().items() if name in PATHS}
    root = write_tables(tmp_path, mass_train=[case(**foreign), case("P_0000", **{"abnormality id": "2"})])
    rejects = read_cbis_ddsm(root, lesion_types=MASS, image_mode=None).rejects
    assert list(rejects["reason"]) == ["image path belongs to another patient"]


@pytest.mark.parametrize("link", [f"{SUBJECT}_1", f"{SUBJECT}_1/2.0", f"{SUBJECT}_1/2.0/2.1/1-1.dcm"])
def test_link_out_of_the_root_is_rejected(tmp_path, link):
    outside = tmp_path / "outside"
    touch(outside / "2.1" / "1-1.dcm")
    root = write_tables(tmp_path / "data", mass_train=[case()])
    touch(root / CLASSIC["film"])
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(outside / "2.1" / "1-1.dcm" if link.endswith("dcm") else outside)
    table = read_cbis_ddsm(root, lesion_types=MASS, image_mode=ImageMode.CROP)
    assert list(table.rejects["reason"]) == ["path leaves the data root"]


def test_links_within_the_root_are_followed_even_in_a_circle(tmp_path):
    root = write_tables(tmp_path / "real", mass_train=[case()])
    touch(root / "store" / "deep" / "1-1.dcm")
    folder = root / f"{SUBJECT}_1"
    folder.mkdir()
    (folder / "series").symlink_to(root / "store" / "deep")
    (folder / "again").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    (root / "self").symlink_to(root / "self")
    (tmp_path / "link").symlink_to(root)
    row = read_cbis_ddsm(tmp_path / "link", lesion_types=MASS, image_mode=ImageMode.CROP).frame.iloc[0]
    assert {Path(path).name for path in row["lesion_paths"]} == {"1-1.dcm"}
    assert f"{SUBJECT}_1/series/1-1.dcm" in row["lesion_paths"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pathology": "UNPROVEN"}, "Expected pathology='UNPROVEN' to be one of"),
        ({"pathology": ""}, "Expected pathology=''"),
        ({"patient_id": ""}, "Expected a patient_id"),
        ({"left or right breast": "N/A"}, "Expected left_or_right_breast, got an empty cell."),
        ({"abnormality id": "one"}, "Expected abnormality_id='one' to be a whole number."),
    ],
)
def test_bad_row_is_rejected(tmp_path, changes, reason):
    root = write_tables(tmp_path, mass_train=[case("P_00002"), case(**changes)])
    table = read_cbis_ddsm(root, lesion_types=MASS, image_mode=None)
    assert len(table.frame) == 1
    assert table.rejects["row"].tolist() == [2]
    assert table.rejects["reason"][0].startswith(reason)


def test_one_number_with_two_outcomes_is_two_lesions(tmp_path):
    views = [case(), case(view="MLO", pathology="BENIGN"), case("P_00002"), case("P_00002", view="MLO")]
    frame = read_cbis_ddsm(write_tables(tmp_path, mass_train=views), lesion_types=MASS, image_mode=None).frame
    assert frame.groupby("finding_id", sort=False)["patient_id"].size().tolist() == [1, 1, 2]


def test_repeated_lesion_is_rejected(tmp_path):
    root = write_tables(tmp_path, mass_train=[case(), case(**{"abnormality id": "1.0"})])
    table = read_cbis_ddsm(root, lesion_types=(*MASS, *MASS), image_mode=None)
    assert table.rejects[["row", "reason"]].to_numpy().tolist() == [[2, "duplicate lesion"]]


def test_patient_in_test_of_another_type_leaves_training(tmp_path):
    root = write_tables(
        tmp_path, mass_train=[case(), case("P_00002")], calc_test=[case(kind="calc", split="Test", view="MLO")]
    )
    both = read_cbis_ddsm(root, lesion_types=BOTH, image_mode=None)
    assert both.excluded["lesion_id"].tolist() == [f"{SUBJECT}_1"]
    assert both.excluded["reason"].tolist() == ["patient is in the official test split"]
    assert both.reject_fraction == 0
    assert len(read_cbis_ddsm(root, lesion_types=MASS, image_mode=None).frame) == 2


def test_boxes_are_joined_by_lesion(tmp_path):
    root = write_tables(tmp_path, mass_train=[case(), case("P_00002"), case("P_00003")])
    header = ["lesion_key", "roi_x", "roi_y", "roi_w", "roi_h"]
    boxes = [[f"{SUBJECT}_1", 1, 2, 3, 4], ["Mass-Training_P_00003_LEFT_CC_1", 1, 2, 0, 4]]
    write_table(root / "mass_roi_boxes.csv", header, [dict(zip(header, box, strict=True)) for box in boxes])
    table = read_cbis_ddsm(root, lesion_types=MASS, image_mode=None)
    assert table.frame[header[1:]].iloc[0].tolist() == [1, 2, 3, 4]
    assert table.frame[header[1:]].iloc[1].isna().all()
    assert table.rejects["reason"].tolist() == ["Expected roi_w='0' to be a whole number >= 1."]
    # Given twice, a box is one; two different ones are that lesion's problem and nobody else's.
    other = [boxes[0][0], 9, 9, 9, 9]
    rows = [dict(zip(header, box, strict=True)) for box in (boxes[0], boxes[0])]
    write_table(root / "mass_roi_boxes.csv", header, rows)
    assert len(read_cbis_ddsm(root, lesion_types=MASS, image_mode=None).frame) == 3
    write_table(root / "mass_roi_boxes.csv", header, [*rows, dict(zip(header, other, strict=True))])
    table = read_cbis_ddsm(root, lesion_types=MASS, image_mode=None)
    assert table.frame["patient_id"].tolist() == ["P_00002", "P_00003"]
    assert table.rejects["reason"].tolist() == ["Expected one box for the lesion, got several."]
    write_table(root / "mass_roi_boxes.csv", header[:4], [])
    with pytest.raises(TableError, match=r"Expected mass_roi_boxes\.csv to have column roi_h"):
        read_cbis_ddsm(root, lesion_types=MASS, image_mode=None)


def test_missing_table_or_column_is_named_in_one_line(tmp_path):
    root = write_tables(tmp_path, mass_train=[case()])
    header = [name for name in HEADERS["mass"] if name != "breast_density"]
    write_table(root / "mass_case_description_test_set.csv", header, [])
    with pytest.raises(
        TableError, match=r"^Expected mass_case_description_test_set\.csv to have column breast_density"
    ):
        read_cbis_ddsm(root, lesion_types=MASS, image_mode=None)
    (root / "mass_case_description_test_set.csv").unlink()
    with pytest.raises(TableError, match=r"mass_case_description_test_set\.csv") as caught:
        read_cbis_ddsm(root, lesion_types=MASS, image_mode=None)
    assert "\n" not in str(caught.value)
    with pytest.raises(TableError, match="No such file"):
        read_cbis_ddsm(root / "absent", lesion_types=MASS, image_mode=ImageMode.CROP)
    with pytest.raises(TableError, match="Expected a readable data root"):
        index_images(root / "absent", [])
    with pytest.raises(ValueError, match="Expected lesion_types="):
        read_cbis_ddsm(root, lesion_types=(), image_mode=ImageMode.CROP)


@pytest.mark.parametrize("name", ["breast_density", "breast density", "Breast-Density "])
def test_spellings_of_a_column_name(tmp_path, name):
    root = write_tables(tmp_path)
    rows = [{name if key == "breast_density" else key: cell for key, cell in case().items()}]
    write_table(root / "mass_case_description_train_set.csv", list(rows[0]), rows)
    assert read_cbis_ddsm(root, lesion_types=MASS, image_mode=None).frame["breast_density"].tolist() == ["2"]


@pytest.fixture
def real():
    if not CBIS_DDSM.is_dir():
        pytest.skip("the CBIS-DDSM tables are not at ../shared/data")
    return CBIS_DDSM


def test_real_masses(real):
    table = read_cbis_ddsm(real, lesion_types=MASS, image_mode=ImageMode.CROP)
    assert table.frame["split"].value_counts().to_dict() == {"train": 1318, "test": 378}
    assert len(table.rejects) == len(table.excluded) == 0
    assert table.frame["lesion_paths"].map(len).eq(1).all()
    assert (table.frame["lesion_paths"].str[0].str.split("/").str[0] == table.frame["lesion_id"]).all()
    assert table.frame["film_path"].notna().sum() == 4
    assert table.frame["roi_w"].notna().sum() == 1692
    assert table.frame["label"].sum() == 637 + 147
    assert all((real / path).is_file() for path in table.frame["film_path"].dropna())
    assert table.frame["assessment"].isna().sum() == 129 + 33


def test_real_tables_of_both_types(real):
    table = read_cbis_ddsm(real, lesion_types=BOTH, image_mode=None)
    assert table.excluded["patient_id"].nunique() == 31
    assert len(table.rejects) == 0
    assert len(table.frame) + len(table.excluded) == 3568
    assert (table.frame["split"] == "test").sum() == 378 + 326
    # A second way to the same rows, by the standard library alone.
    sides = {"train": set(), "test": set()}
    lesions = Counter()
    for path in real.glob("*_case_description_*_set.csv"):
        split = path.name.split("_")[3]
        with path.open(newline="") as file:
            for cells in csv.DictReader(file):
                sides[split].add(cells["patient_id"])
                lesions[split, cells["patient_id"]] += 1
    overlap = sides["train"] & sides["test"]
    assert set(table.excluded["patient_id"]) == overlap
    assert len(table.excluded) == sum(lesions["train", patient] for patient in overlap)


def test_calcifications_without_images_do_not_free_the_test_patients(real):
    table = read_cbis_ddsm(real, lesion_types=BOTH, image_mode=ImageMode.CROP)
    assert table.excluded["patient_id"].nunique() == 31
    assert table.rejects["reason"].str.startswith("no image file: ").all()


CASES = st.builds(
    lambda patient, side, number, path, label, split: (
        split,
        case(
            patient, side=side, number=number, split=split, pathology=label,
            **({} if path is None else {"image file path": path}),
        ),
    ),
    st.sampled_from(["P_00001", "P_00002", "p_2", "P_00003", "", "unknown"]),
    st.sampled_from(["LEFT", "LEFT", "RIGHT", "LEFT_CC"]),
    st.sampled_from(["1", "1", "2", "x"]),
    st.sampled_from([None, None, None, "CBIS-DDSM/1/2/3.dcm", "../3.dcm", "Mass-Training_P_00001_LEFT_CC/1/2/3.dcm"]),
    st.sampled_from(["MALIGNANT", "BENIGN", "?"]),
    st.sampled_from(["Training", "Training", "Test"]),
)  # fmt: skip
BOXES = st.lists(
    st.tuples(
        st.sampled_from([f"{SUBJECT}_1", f"{SUBJECT}_2", "Mass-Training_P_00002_LEFT_CC_1"]), st.sampled_from("123²")
    ),
    max_size=4,
)


@settings(max_examples=60)
@given(cases=st.lists(CASES, min_size=2, max_size=8), boxes=BOXES)
def test_nobodys_rows_change_with_another_patient(tmp_path_factory, cases, boxes):
    """Removing all rows of one patient leaves the rows of every other as they were, files and boxes included."""
    root = tmp_path_factory.mktemp("data")
    for patient in ("P_00001", "P_00002"):
        subject = f"Mass-Training_{patient}_LEFT_CC"
        touch(root / "CBIS-DDSM" / subject / "1.0" / "1.1" / "1-1.dcm", root / f"{subject}_1" / "2.0" / "2.1" / "1.dcm")
    write_table(
        root / "mass_roi_boxes.csv",
        ["lesion_key", "roi_x", "roi_y", "roi_w", "roi_h"],
        [{"lesion_key": key, "roi_x": x, "roi_y": 1, "roi_w": 1, "roi_h": 1} for key, x in boxes],
    )

    def rows_by_patient(kept):
        write_tables(
            root,
            mass_train=[row for split, row in kept if split == "Training"],
            mass_test=[row for split, row in kept if split == "Test"],
        )
        # Where a row stands in its file changes, of course.
        frame = read_cbis_ddsm(root, lesion_types=MASS, image_mode=None).frame.drop(columns="row")
        return {
            folded_or_none(name): part.astype(str).to_numpy().tolist() for name, part in frame.groupby("patient_id")
        }

    whole = rows_by_patient(cases)
    for gone in {folded_or_none(row["patient_id"]) for _, row in cases}:
        rest = rows_by_patient([c for c in cases if folded_or_none(c[1]["patient_id"]) != gone])
        assert rest == {patient: rows for patient, rows in whole.items() if patient != gone}
