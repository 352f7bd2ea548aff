"""Synthetic patients follow the shares that they are drawn from, in every hospital and in the smallest data set."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.vocabulary import LesionType, Pathology, Split, View
from simulations.phantom.distributions import (
    AGGRESSIVENESS_SEPARATION,
    DESCRIPTORS,
    GRADES,
    MALIGNANT_SHARE,
    MASS_SHARES,
    SECOND_LESION_SHARE,
    SERIES_LETTERS,
    SINGLE_VIEW_SHARE,
    SITE_SHARES,
    TEST_SHARE,
)
from simulations.phantom.population import MAX_PATIENTS, MIN_PATIENTS, draw_patients


@pytest.fixture(scope="module")
def patients():
    return draw_patients(4000, 5)


@pytest.fixture(scope="module")
def lesions(patients):
    return [lesion for patient in patients for lesion in patient.lesions]


@settings(max_examples=30)
@given(num_patients=st.integers(MIN_PATIENTS, 200), seed=st.integers(0, 2**32))
def test_every_site_has_both_classes_and_patients_are_distinct(num_patients, seed):
    patients = draw_patients(num_patients, seed)
    assert len({patient.patient_id for patient in patients}) == num_patients
    classes = {(patient.institution, patient.lesions[0].pathology.label) for patient in patients}
    assert classes == {(site, label) for site in SITE_SHARES for label in (0, 1)}


@pytest.mark.parametrize("num_patients", [MIN_PATIENTS - 1, MAX_PATIENTS + 1])
def test_number_of_patients_has_bounds(num_patients):
    with pytest.raises(ValueError, match=f"num_patients={num_patients} in"):
        draw_patients(num_patients, 0)


def test_sites_and_splits_have_their_shares(patients):
    sites = Counter(patient.institution for patient in patients)
    assert {site: sites[site] / len(patients) for site in sites} == pytest.approx(SITE_SHARES, abs=0.001)
    is_test = [patient.lesions[0].split is Split.TEST for patient in patients]
    assert np.mean(is_test) == pytest.approx(TEST_SHARE, abs=0.001)


@pytest.mark.parametrize("lesion_type", LesionType)
@pytest.mark.parametrize("pathology", Pathology)
def test_columns_are_distributed_as_given(lesions, lesion_type, pathology):
    group = [x for x in lesions if x.lesion_type is lesion_type and x.pathology is pathology]
    shares = DESCRIPTORS[lesion_type][pathology]
    wanted, found = Counter(), Counter()
    for pair, share in shares.items():
        shape, margins = pair.split(" ")
        wanted[frozenset(shape.split("-")), frozenset(margins.split("-"))] += share / sum(shares.values())
    for lesion in group:
        pair = (lesion.shape_or_type, lesion.margins_or_distribution)
        found[tuple(frozenset(cell.split("-")) for cell in pair)] += 1 / len(group)
    # Four standard errors, and room for the rows that are changed on purpose.
    for pair, share in wanted.items():
        assert found[pair] == pytest.approx(share, abs=0.02 + 4 * (share * (1 - share) / len(group)) ** 0.5)
    subtlety = np.bincount([x.subtlety for x in group], minlength=6)[1:] / len(group)
    assert subtlety == pytest.approx(GRADES[lesion_type][pathology]["subtlety"], abs=0.02 + 2 / len(group) ** 0.5)


def test_aggressiveness_is_separated_but_independent_of_the_columns(lesions):
    """Given the label, whoever has spiculated or pleomorphic findings is no more aggressive than the others."""
    labels = np.array([lesion.pathology.label for lesion in lesions])
    aggressiveness = np.array([lesion.aggressiveness for lesion in lesions])
    difference = aggressiveness[labels == 1].mean() - aggressiveness[labels == 0].mean()
    assert difference == pytest.approx(AGGRESSIVENESS_SEPARATION, abs=0.15)
    typical = np.array([x.margins_or_distribution == "SPICULATED" or "PLEOMORPHIC" in x.shape_or_type for x in lesions])
    for label in (0, 1):
        inside = labels == label
        assert abs(aggressiveness[inside & typical].mean() - aggressiveness[inside & ~typical].mean()) < 0.15


def test_joined_values_come_in_either_order(lesions):
    joined = {lesion.shape_or_type for lesion in lesions if "-" in lesion.shape_or_type}
    assert any("-".join(reversed(values.split("-"))) in joined for values in joined)


@settings(max_examples=20)
@given(num_patients=st.integers(MIN_PATIENTS, 300), seed=st.integers(0, 2**32))
def test_every_hospital_has_its_share_of_patients_and_of_malignant_ones(num_patients, seed):
    patients = draw_patients(num_patients, seed)
    for site, share in SITE_SHARES.items():
        labels = [patient.lesions[0].pathology.label for patient in patients if patient.institution == site]
        assert abs(len(labels) - share * num_patients) <= 1.5
        # Each class has one patient at least, whatever the share says.
        assert abs(sum(labels) - MALIGNANT_SHARE * len(labels)) <= 1


@settings(max_examples=20)
@given(num_patients=st.integers(MIN_PATIENTS, 200), seed=st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_patients(num_patients, seed):
    patients = draw_patients(num_patients, seed)
    assert draw_patients(num_patients, seed) == patients
    assert draw_patients(num_patients, seed + 1) != patients
    assert [patient.patient_id for patient in patients] == sorted(patient.patient_id for patient in patients)


@settings(max_examples=20)
@given(num_patients=st.integers(MIN_PATIENTS, 200), seed=st.integers(0, 2**32))
def test_the_smallest_data_set_has_every_peculiarity_of_the_official_tables(num_patients, seed):
    patients = draw_patients(num_patients, seed)
    lesions = [lesion for patient in patients for lesion in patient.lesions]
    masses = [lesion for lesion in lesions if lesion.lesion_type is LesionType.MASS]
    assert any(lesion.recorded_density == 0 for lesion in lesions)
    assert {"ROUND-OVAL", "OVAL-ROUND", ""} <= {lesion.shape_or_type for lesion in masses}
    assert any(lesion.margins_or_distribution == "" for lesion in masses)
    in_both_splits = [patient for patient in patients if len({lesion.split for lesion in patient.lesions}) == 2]
    assert in_both_splits
    # As in CBIS-DDSM, such a patient is in train of one lesion type and in test of the other.
    assert all(len({lesion.lesion_type for lesion in patient.lesions}) == 2 for patient in in_both_splits)


def test_second_lesions_are_of_the_other_type_in_the_other_breast_or_beside_the_first(patients):
    pairs = [patient.lesions for patient in patients if len(patient.lesions) > 1]
    assert len(pairs) / len(patients) == pytest.approx(SECOND_LESION_SHARE, abs=0.001)
    for first, second in pairs:
        is_other = first.lesion_type != second.lesion_type
        assert is_other == (first.laterality != second.laterality)
        assert (first.number, second.number) == ((1, 1) if is_other else (1, 2))
        assert first.views == second.views
    assert {first.lesion_type != second.lesion_type for first, second in pairs} == {True, False}


@pytest.mark.parametrize("label", [0, 1])
def test_first_lesions_are_masses_as_often_as_given(patients, label):
    first = [patient.lesions[0] for patient in patients if patient.lesions[0].pathology.label == label]
    is_mass = [lesion.lesion_type is LesionType.MASS for lesion in first]
    assert np.mean(is_mass) == pytest.approx(MASS_SHARES[label], abs=0.002)


def test_views_and_series_letters(patients):
    views = Counter(patient.lesions[0].views for patient in patients)
    assert set(views) == {(View.CC,), (View.MLO,), (View.CC, View.MLO)}
    num_single = views[View.CC,] + views[View.MLO,]
    # Four standard errors.
    assert num_single / len(patients) == pytest.approx(SINGLE_VIEW_SHARE, abs=0.028)
    letters = {(patient.institution, patient.series_letter) for patient in patients}
    assert letters == {(site, letter) for site, all_letters in SERIES_LETTERS.items() for letter in all_letters}
