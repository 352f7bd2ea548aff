"""The phantom's DICOM files: read back by pydicom and by the site's own reader, value for value."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian, RLELossless

from client.data.dicom.reader import read_dicom
from client.data.preprocessing import is_mask
from shared_model.system.seeding import numpy_generator
from shared_model.vocabulary import LesionType
from simulations.phantom.dicom_files import cut_crop, write_patient
from simulations.phantom.file_plan import CROP, MASK, RESIZED_MASK_SCALE, plan_views
from simulations.phantom.films import FILM_SHAPE, draw_film
from simulations.phantom.population import draw_patients
from simulations.phantom.scanners import SCANNERS, scan

SEED = 6


@pytest.fixture(scope="module")
def plan():
    return plan_views(draw_patients(40, SEED), SEED)


def path_of(root, view, series, number):
    is_newer = SCANNERS[view.patient.institution].has_newer_layout
    return root / series.folder(is_newer=is_newer) / f"1-{number + 1}.dcm"


def paths_of(root, view):
    """Return the files that hold the crop and the mask, whatever they are called."""
    crop = path_of(root, view, view.crop, view.crop_number)
    mask = path_of(root, view, view.mask, view.mask_number)
    return (mask, crop) if view.is_swapped else (crop, mask)


def expected_film(views, film):
    """Draw and scan a film again: its stored values, and the masks of its lesions."""
    on_film = [view for view in views if view.film == film]
    rng = numpy_generator(SEED, "phantom", "film", film.subject)
    drawn = draw_film(
        [view.lesion for view in on_film],
        density=on_film[0].patient.density,
        view=on_film[0].view,
        laterality=on_film[0].lesion.laterality,
        rng=rng,
    )
    stored = scan(drawn.image, SCANNERS[on_film[0].patient.institution], rng)
    return stored, dict(zip([view.lesion.number for view in on_film], drawn.masks, strict=True))


@pytest.fixture(scope="module", params=list(SCANNERS))
def written(request, plan, tmp_path_factory):
    """Root and views of the first patient of each hospital."""
    views = next(views for views in plan.values() if views[0].patient.institution == request.param)
    root = tmp_path_factory.mktemp("files")
    write_patient(root, views, SEED)
    return root, views


def test_every_planned_file_is_there_and_no_other(written):
    root, views = written
    planned = {path_of(root, view, view.film, 0) for view in views}
    planned |= {path for view in views for path in paths_of(root, view)}
    assert set(root.rglob("*.dcm")) == planned


def test_headers_are_those_of_a_secondary_capture_mammogram(written):
    root, views = written
    scanner = SCANNERS[views[0].patient.institution]
    for view in views:
        dataset = pydicom.dcmread(path_of(root, view, view.film, 0))
        assert dataset.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert (dataset.Modality, dataset.BodyPartExamined) == ("MG", "BREAST")
        assert dataset.PatientID == str(dataset.PatientName) == view.film.subject
        assert (dataset.Laterality, dataset.PatientOrientation) == (view.lesion.laterality[0], str(view.view))
        assert dataset.SeriesDescription == "full mammogram images"
        assert (dataset.BitsAllocated, dataset.BitsStored) == (16, scanner.bits_stored)
        assert dataset.HighBit == scanner.bits_stored - 1
        assert dataset.PhotometricInterpretation == scanner.photometric_interpretation
        syntax = RLELossless if scanner.is_compressed else ExplicitVRLittleEndian
        assert dataset.file_meta.TransferSyntaxUID == syntax
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
            assert UID(dataset[keyword].value).is_valid


def test_instances_have_identifiers_of_their_own(written):
    root, _ = written
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in root.rglob("*.dcm")]
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == len(datasets)


def test_pixels_are_the_scanned_film_and_the_crop_round_its_lesion(written):
    root, views = written
    for view in views:
        expected, masks = expected_film(views, view.film)
        film = pydicom.dcmread(path_of(root, view, view.film, 0)).pixel_array
        assert film.shape == FILM_SHAPE
        np.testing.assert_array_equal(film, expected)
        crop, mask = (pydicom.dcmread(path).pixel_array for path in paths_of(root, view))
        np.testing.assert_array_equal(crop, cut_crop(expected, masks[view.lesion.number]))
        if view.mask_scale == 1:
            np.testing.assert_array_equal(mask, masks[view.lesion.number])


def test_the_sites_reader_sees_what_was_stored(written):
    root, views = written
    scanner = SCANNERS[views[0].patient.institution]
    for view in views:
        path = path_of(root, view, view.film, 0)
        grey = read_dicom(path)
        assert (grey.laterality, grey.view) == (view.lesion.laterality, view.view)
        stored, largest = pydicom.dcmread(path).pixel_array, 2**scanner.bits_stored - 1
        # MONOCHROME1 is shown inverted, so that dense tissue is bright for every scanner.
        seen = largest - stored if scanner.photometric_interpretation == "MONOCHROME1" else stored
        np.testing.assert_array_equal(grey.pixels, seen)
        assert [is_mask(read_dicom(path).pixels) for path in paths_of(root, view)] == [False, True]


def first_patient_with(plan, has):
    """Return the views of the first patient who has a lesion view of a kind, and that view."""
    return next((views, view) for views in plan.values() for view in views if has(view))


def test_a_resized_mask_is_smaller_than_its_film(plan, tmp_path):
    views, resized = first_patient_with(plan, lambda view: view.mask_scale != 1)
    write_patient(tmp_path, views, SEED)
    mask = pydicom.dcmread(paths_of(tmp_path, resized)[1]).pixel_array
    assert mask.shape == tuple(round(RESIZED_MASK_SCALE * side) for side in FILM_SHAPE)
    assert set(np.unique(mask)) == {0, 255}


@pytest.mark.parametrize("is_swapped", [False, True])
def test_descriptions_name_crop_and_mask_and_are_wrong_where_these_are_swapped(plan, tmp_path, is_swapped):
    views, chosen = first_patient_with(
        plan,
        lambda view: view.lesion.lesion_type is LesionType.CALCIFICATION and view.is_swapped == is_swapped,
    )
    write_patient(tmp_path, views, SEED)
    crop, mask = (pydicom.dcmread(path).SeriesDescription for path in paths_of(tmp_path, chosen))
    assert (crop, mask) == ((MASK, CROP) if is_swapped else (CROP, MASK))


@pytest.mark.parametrize(
    ("box", "corner", "shape"),
    [
        ((100, 80, 40, 60), (50, 60), (120, 120)),
        ((100, 80, 4, 6), (47, 66), (72, 72)),
        ((0, 0, 40, 60), (0, 0), (90, 80)),
    ],
    ids=["twice the longer side", "not below the smallest side", "as far as the film reaches"],
)
def test_crops_by_hand(box, corner, shape):
    x, y, width, height = box
    mask = np.zeros((250, 260), dtype=np.uint8)
    mask[y : y + height, x : x + width] = 255
    film = np.arange(250 * 260, dtype=np.uint16).reshape(250, 260)
    crop = cut_crop(film, mask)
    assert crop.shape == shape
    assert crop[0, 0] == film[corner]
