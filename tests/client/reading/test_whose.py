"""Whose pictures are read: two views of one patient and one day, and the very bytes that the reading names."""

import dataclasses

import cv2
import pydicom
import pytest

from client.reading import preparation
from client.reading.reader import Reader
from client.reading.request import LesionRequest, Picture
from client.reading.result import Outcome, Reason, to_result
from shared_model.vocabulary import View
from tests.client.conftest import write_dicom
from tests.releases import mass, release_in


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return Reader.open(release_in(tmp_path_factory.mktemp("release")).folder)


def request_of(folder, **changes):
    """Return a request of two views; the file of the MLO view has the changes."""
    pictures = []
    for number, view in enumerate(View):
        path = mass(folder / f"{view}.png", 1001 + 2 * number, is_malignant=True)
        write_dicom(folder / f"{view}.dcm", cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
        dataset = pydicom.dcmread(folder / f"{view}.dcm")
        dataset.PatientID, dataset.PatientBirthDate, dataset.StudyDate = "4711", "19600101", "20260105"
        for name, value in changes.items() if view is View.MLO else ():
            setattr(dataset, name, value)
        dataset.save_as(folder / f"{view}.dcm")
        pictures.append(Picture(path=folder / f"{view}.dcm", view=view))
    return LesionRequest(pictures=tuple(pictures), columns={"laterality": "LEFT"})


@pytest.mark.parametrize(
    ("name", "value"), [("PatientID", "4712"), ("PatientBirthDate", "19600102"), ("StudyDate", "20190105")]
)
def test_views_of_two_patients_or_days_are_refused(reader, tmp_path, name, value):
    reading = reader.read(request_of(tmp_path, **{name: value}))
    assert [each.code for each in reading.why] == [Reason.PATIENT]
    assert name in reading.why[0].text
    assert value not in to_result(reading)


def test_one_patient_is_read_and_one_that_is_not_named_is_marked(reader, tmp_path):
    reading = reader.read(request_of(tmp_path))
    assert reading.outcome is Outcome.READ, reading.why
    assert not any("names no patient" in text for text in reading.when_not_to_trust)
    reading = reader.read(request_of(tmp_path, PatientID="unknown", BreastImplantPresent="YES"))
    assert reading.outcome is Outcome.READ, reading.why
    assert any("names no patient" in text for text in reading.when_not_to_trust)
    assert any("a breast with an implant" in text for text in reading.when_not_to_trust)


def test_a_view_in_the_columns_is_that_of_a_picture(reader, tmp_path):
    request = request_of(tmp_path)
    one = dataclasses.replace(request, pictures=request.pictures[1:])
    for asked, view, outcome in (
        (request, "CC", Outcome.READ),
        (one, "MLO", Outcome.READ),
        (one, "CC", Outcome.REFUSED),
    ):
        found = reader.read(dataclasses.replace(asked, columns={"laterality": "LEFT", "view": view}))
        assert found.outcome is outcome, found.why
        assert {each.code for each in found.why} <= {Reason.VIEW}


def test_a_file_that_changes_while_it_is_read_is_refused(reader, tmp_path, monkeypatch):
    request, read = request_of(tmp_path), preparation.read_image

    def read_and_swap(path):
        grey = read(path)
        path.write_bytes(path.read_bytes() + b"\0\0")
        return grey

    monkeypatch.setattr(preparation, "read_image", read_and_swap)
    reading = reader.read(request)
    assert {each.code for each in reading.why} == {Reason.FILE}
    assert "changes" in reading.why[0].text
