"""Whose film it is: what two files may differ in, and what makes a film unusual."""

import pytest
from pydicom import Dataset

from client.data.dicom.examination import Examination, read_examination
from shared_model.vocabulary import View
from tests.reader_room import write_film


def examined(folder, name="film.dcm", **changes):
    write_film(folder / name, **changes)
    return read_examination(folder / name)


@pytest.mark.parametrize(
    ("changes", "attribute"),
    [
        ({"patient": "PH-0002"}, "PatientID"),
        ({"IssuerOfPatientID": "THERE"}, "IssuerOfPatientID"),
        ({"PatientBirthDate": "19600102"}, "PatientBirthDate"),
        ({"PatientSex": "M"}, "PatientSex"),
        ({"StudyDate": "20240101"}, "StudyDate"),
        ({}, None),
        ({"patient": "ph-1"}, None),
        ({"patient": "", "PatientBirthDate": "", "PatientSex": "", "StudyDate": ""}, None),
        ({"patient": "unknown"}, None),
    ],
)
def test_what_speaks_against_one_patient_and_day(tmp_path, changes, attribute):
    facts = {"IssuerOfPatientID": "HERE", "PatientBirthDate": "19600101", "PatientSex": "F", "StudyDate": "20260101"}
    first = examined(tmp_path, "first.dcm", **facts)
    second = examined(tmp_path, "second.dcm", view=View.MLO, seed=1, **(facts | changes))
    assert first.contradiction(second) == second.contradiction(first) == attribute


def test_a_file_that_names_nobody_contradicts_nobody():
    assert Examination().contradiction(Examination(patient="a", study_date="20260101")) is None


def test_cbis_ddsm_names_one_patient_by_the_picture(tmp_path):
    names = ("Mass-Training_P_00001_LEFT_CC", "Mass-Training_P_00001_LEFT_MLO_1", "Mass-Training_P_00002_LEFT_CC")
    one, same, other = (examined(tmp_path, f"{number}.dcm", patient=name) for number, name in enumerate(names))
    assert one.contradiction(same) is None
    assert one.contradiction(other) == "PatientID"


def test_unusual_films_are_told(tmp_path):
    modifier, view = Dataset(), Dataset()
    modifier.CodeValue, view.ViewModifierCodeSequence = "399163009", [modifier]
    assert examined(tmp_path).unusual == ()
    assert examined(tmp_path, ViewCodeSequence=[view]).unusual == ("a view with magnification",)
    assert examined(tmp_path, EstimatedRadiographicMagnificationFactor="1.8").unusual == ("a view with magnification",)
    assert examined(tmp_path, BreastImplantPresent="YES").unusual == ("a breast with an implant",)
    synthetic = ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "GENERATED_2D"]
    assert examined(tmp_path, ImageType=synthetic).unusual == ("a picture computed from a tomosynthesis",)
