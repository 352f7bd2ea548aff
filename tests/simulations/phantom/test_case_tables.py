"""The phantom's tables: the official headers, and a row for every lesion view."""

import csv

import pytest

from shared_model.vocabulary import LesionType, Split
from simulations.phantom.case_tables import write_tables
from simulations.phantom.file_plan import plan_views
from simulations.phantom.population import draw_patients

HEADERS = {
    "mass": "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,mass shape,"
    "mass margins,assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path",
    "calc": "patient_id,breast density,left or right breast,image view,abnormality id,abnormality type,calc type,"
    "calc distribution,assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path",
}
"""Of the official tables, byte for byte."""
LESION_TYPES = {"mass": LesionType.MASS, "calc": LesionType.CALCIFICATION}
PATHS = ("image file path", "cropped image file path", "ROI mask file path")


@pytest.fixture(scope="module")
def patients():
    return draw_patients(60, 9)


@pytest.fixture(scope="module")
def views(patients):
    return [view for of_patient in plan_views(patients, 9).values() for view in of_patient]


@pytest.fixture(scope="module")
def folder(patients, views, tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    write_tables(root, patients, views)
    return root


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("split", Split)
@pytest.mark.parametrize("word", HEADERS)
def test_headers_and_line_ends_are_the_official_ones(folder, word, split):
    content = (folder / f"{word}_case_description_{split}_set.csv").read_bytes()
    assert content.split(b"\r\n")[0].decode() == HEADERS[word]
    assert content.endswith(b"\r\n")


@pytest.mark.parametrize("split", Split)
@pytest.mark.parametrize("word", HEADERS)
def test_every_lesion_view_is_a_row_of_its_table(folder, views, word, split):
    rows = read(folder / f"{word}_case_description_{split}_set.csv")
    planned = [view for view in views if (view.lesion.lesion_type, view.lesion.split) == (LESION_TYPES[word], split)]
    assert len(rows) == len(planned) > 0
    for row, view in zip(rows, planned, strict=True):
        lesion = view.lesion
        assert row["patient_id"] == view.patient.patient_id
        assert (row["left or right breast"], row["image view"]) == (lesion.laterality, view.view)
        assert (row["assessment"], row["subtlety"]) == (str(lesion.assessment), str(lesion.subtlety))
        assert row["pathology"] == lesion.pathology
        assert row.get("breast_density", row.get("breast density")) == str(lesion.recorded_density)
        # As in the official tables, the file is named otherwise than it lies on disk.
        assert row["image file path"] == f"{view.film.folder(is_newer=False)}/000000.dcm"


@pytest.mark.parametrize(("word", "column"), [("mass", "ROI mask file path"), ("calc", "cropped image file path")])
def test_one_path_of_every_row_ends_in_a_line_break(folder, word, column):
    for split in Split:
        rows = read(folder / f"{word}_case_description_{split}_set.csv")
        assert all(row[column].endswith(".dcm\n") for row in rows)
        assert all(row[other].endswith(".dcm") for row in rows for other in PATHS if other != column)


def test_the_hospital_of_every_patient(folder, patients):
    rows = read(folder / "sites.csv")
    assert [tuple(row.values()) for row in rows] == [
        (patient.patient_id, patient.series_letter, patient.institution) for patient in patients
    ]
