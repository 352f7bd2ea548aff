"""Which files there are: folders of both layouts, identifiers, and how often a peculiarity comes."""

from collections import Counter

import pytest
from pydicom.uid import UID

from shared_model.vocabulary import LesionType
from simulations.phantom.file_plan import (
    CROP,
    MASK,
    OWN_MASK_SERIES_EVERY,
    RESIZED_MASK_EVERY,
    RESIZED_MASK_SCALE,
    SWAPPED_EVERY,
    plan_views,
    uid,
)
from simulations.phantom.population import draw_patients


@pytest.fixture(scope="module")
def views():
    plan = plan_views(draw_patients(600, 4), 4)
    return [view for of_patient in plan.values() for view in of_patient]


def test_every_lesion_view_is_planned_once():
    patients = draw_patients(40, 1)
    plan = plan_views(patients, 1)
    assert set(plan) == {patient.patient_id for patient in patients}
    for patient in patients:
        expected = [(lesion, view) for lesion in patient.lesions for view in lesion.views]
        assert [(one.lesion, one.view) for one in plan[patient.patient_id]] == expected


@pytest.mark.parametrize("lesion_type", LesionType)
def test_peculiarities_come_as_often_as_given(views, lesion_type):
    group = [view for view in views if view.lesion.lesion_type is lesion_type]
    own_series = sum(view.mask != view.crop for view in group)
    expected = len(group) / OWN_MASK_SERIES_EVERY if lesion_type is LesionType.MASS else 0
    assert own_series == pytest.approx(expected, abs=1)
    assert sum(view.is_swapped for view in group) == pytest.approx(len(group) / SWAPPED_EVERY, abs=1)
    scales = Counter(view.mask_scale for view in group)
    assert set(scales) == {1.0, RESIZED_MASK_SCALE}
    assert scales[RESIZED_MASK_SCALE] == pytest.approx(len(group) / RESIZED_MASK_EVERY, abs=1)


def test_crop_and_mask_are_two_files_of_one_series_or_the_first_of_two(views):
    for view in views:
        places = {(view.crop, view.crop_number), (view.mask, view.mask_number)}
        assert len(places) == 2
        if view.mask == view.crop:
            assert {number for _, number in places} == {0, 1}
            assert view.crop.description == MASK
        else:
            assert {number for _, number in places} == {0}
            assert (view.crop.description, view.mask.description) == (CROP, MASK)


def test_lesions_of_one_breast_and_view_share_a_film_and_no_others_do(views):
    films = {}
    for view in views:
        films.setdefault(view.film, set()).add(
            (view.patient.patient_id, view.lesion.lesion_type, view.lesion.split, view.lesion.laterality, view.view)
        )
    assert all(len(shown) == 1 for shown in films.values())
    assert max(Counter(view.film for view in views).values()) == 2


@pytest.mark.parametrize("is_newer", [False, True])
def test_every_series_has_a_folder_of_its_own(views, is_newer):
    series = {one for view in views for one in (view.film, view.crop, view.mask)}
    folders = {one.folder(is_newer=is_newer) for one in series}
    assert len(folders) == len(series)
    assert {folder.count("/") for folder in folders} == {2}


def test_folders_by_hand(views):
    film = views[0].film
    subject, study, series = film.folder(is_newer=False).split("/")
    assert (subject, study, series) == (film.subject, film.study_uid, film.series_uid)
    assert film.folder(is_newer=True) == (
        f"{subject}/07-20-2016-DDSM-{int(study[-5:])}/1.000000-full mammogram images-{int(series[-5:])}"
    )


def test_identifiers_are_valid_and_depend_on_seed_and_names():
    found = {uid(seed, *names) for seed in (0, 1) for names in (("a",), ("a", "b"), ("b", "a"))}
    assert len(found) == 6
    assert all(UID(one).is_valid for one in found)
    assert uid(0, "a") == uid(0, "a")
