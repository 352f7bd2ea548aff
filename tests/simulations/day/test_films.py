"""The films that a day sends: whole examinations of one patient, and those that must not be read."""

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DigitalMammographyXRayImageStorageForProcessing

from client.data.images import read_image
from client.data.preprocessing import Box, square_crop
from client.pacs.incoming import film_of_file
from shared_model.errors import DataError
from shared_model.vocabulary import View
from simulations.day import real_films
from simulations.day.films import Kind, phantom_breasts, write_examinations


@pytest.fixture(scope="module")
def breasts():
    return phantom_breasts(2)


@pytest.fixture(scope="module")
def examinations(breasts, tmp_path_factory):
    return write_examinations(breasts, tmp_path_factory.mktemp("films"))


def of(examinations, kind):
    return next(each for each in examinations if each.kind is kind)


def pixels(examination, view=View.CC):
    return dcmread(examination.paths[view]).pixel_array


def test_every_kind_is_sent(examinations):
    assert [each.kind for each in examinations] == [
        Kind.PLAIN, Kind.PLAIN, Kind.ONE_VIEW, Kind.NEGATIVE, Kind.FOR_PROCESSING, Kind.UNLIKE,
    ]  # fmt: skip
    assert len({each.patient for each in examinations}) == len({each.study for each in examinations}) == 6
    assert list(of(examinations, Kind.ONE_VIEW).paths) == [View.CC]


def test_an_examination_is_of_one_patient_and_study_as_the_door_wants_it(examinations):
    for examination in examinations:
        films = [film_of_file(path.read_bytes()) for path in examination.paths.values()]
        assert {(film.patient, film.study) for film in films} == {(examination.patient, examination.study)}
    instances = [dcmread(path).SOPInstanceUID for each in examinations for path in each.paths.values()]
    assert len(set(instances)) == len(instances)


def test_the_same_day_sends_the_same_bytes(examinations, tmp_path):
    again = write_examinations(phantom_breasts(2), tmp_path)
    for first, second in zip(examinations, again, strict=True):
        assert [path.read_bytes() for path in first.paths.values()] == [
            path.read_bytes() for path in second.paths.values()
        ]


def test_plain_films_are_large_and_the_lesion_is_where_the_box_says(examinations):
    examination = examinations[0]
    for view, path in examination.paths.items():
        grey = read_image(path)
        box = examination.boxes[view]
        assert min(grey.pixels.shape) >= 500
        assert (grey.view, grey.laterality is not None) == (view, True)
        inside = grey.pixels[box.y : box.y + box.height, box.x : box.x + box.width]
        assert inside.mean() > grey.pixels.mean()


def test_the_negative_is_one_of_the_same_film(examinations, breasts):
    examination = of(examinations, Kind.NEGATIVE)
    source = next(each for each in examinations if each.boxes == examination.boxes and each.kind is Kind.PLAIN)
    largest = 2 ** dcmread(examination.paths[View.CC]).BitsStored - 1
    np.testing.assert_array_equal(pixels(examination), largest - pixels(source))
    np.testing.assert_array_equal(pixels(examination, View.MLO), pixels(source, View.MLO))


def test_raw_values_are_said_to_be_raw(examinations):
    film = dcmread(of(examinations, Kind.FOR_PROCESSING).paths[View.CC])
    assert film.SOPClassUID == film.file_meta.MediaStorageSOPClassUID == DigitalMammographyXRayImageStorageForProcessing
    assert film.PresentationIntentType == "FOR PROCESSING"


def test_the_box_in_a_patch_cuts_out_the_patch():
    """So a table of patches trains a network for films on exactly what the patches show."""
    patch = np.random.default_rng(0).random((128, 128), dtype=np.float32)
    np.testing.assert_array_equal(square_crop(patch, real_films.IN_PATCH, real_films.CONTEXT), patch)


def test_a_patch_is_found_on_its_film():
    rng = np.random.default_rng(1)
    film = cv2.GaussianBlur(rng.random((900, 700), dtype=np.float32), (0, 0), 6)
    square = Box(x=240, y=300, width=210, height=210)
    patch = cv2.resize(film[300:510, 240:450], (128, 128), interpolation=cv2.INTER_AREA)
    lesion = Box(x=270, y=370, width=120, height=150)
    found, correlation = real_films.find_patch(film, patch, lesion)
    for side in ("x", "y", "width", "height"):
        assert getattr(found, side) == pytest.approx(getattr(square, side), abs=3)
    assert correlation > 0.99
    inner = real_films.inner_box(square)
    np.testing.assert_array_equal(square_crop(film, inner, real_films.CONTEXT), film[300:510, 240:450])


def test_a_patch_of_another_film_is_not_found():
    rng = np.random.default_rng(2)
    film, other = (cv2.GaussianBlur(rng.random((900, 700), dtype=np.float32), (0, 0), 6) for _ in range(2))
    patch = cv2.resize(other[300:510, 240:450], (128, 128), interpolation=cv2.INTER_AREA)
    with pytest.raises(DataError, match="Expected the patch on its film"):
        real_films.find_patch(film, patch, Box(x=270, y=370, width=120, height=150))
