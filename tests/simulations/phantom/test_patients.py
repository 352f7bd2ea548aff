"""Synthetic patients follow the shares of the official tables."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared_model.vocabulary import CLINICAL_COLUMNS, LesionType, Pathology, Split
from simulations.phantom.patients import (
    DESCRIPTORS,
    GRADES,
    HIDDEN_SEPARATION,
    MAX_PATIENTS,
    MIN_PATIENTS,
    SITE_SHARES,
    TEST_SHARE,
    draw_cohort,
)


@pytest.fixture(scope="module")
def cohort():
    return draw_cohort(4000, 5)


@pytest.fixture(scope="module")
def lesions(cohort):
    return [lesion for patient in cohort for lesion in patient.lesions]


@settings(max_examples=30, deadline=None)
@given(num_patients=st.integers(MIN_PATIENTS, 200), seed=st.integers(0, 2**32))
def test_every_site_has_both_classes_and_patients_are_distinct(num_patients, seed):
    cohort = draw_cohort(num_patients, seed)
    assert len({patient.patient_id for patient in cohort}) == num_patients
    classes = {(patient.institution, patient.lesions[0].pathology.label) for patient in cohort}
    assert classes == {(site, label) for site in SITE_SHARES for label in (0, 1)}


@pytest.mark.parametrize("num_patients", [MIN_PATIENTS - 1, MAX_PATIENTS + 1])
def test_number_of_patients_has_bounds(num_patients):
    with pytest.raises(ValueError, match=f"num_patients={num_patients} in"):
        draw_cohort(num_patients, 0)


def test_sites_and_splits_have_their_shares(cohort):
    sites = Counter(patient.institution for patient in cohort)
    assert {site: sites[site] / len(cohort) for site in sites} == pytest.approx(SITE_SHARES, abs=0.001)
    is_test = [patient.lesions[0].split is Split.TEST for patient in cohort]
    assert np.mean(is_test) == pytest.approx(TEST_SHARE, abs=0.001)


@pytest.mark.parametrize("lesion_type", LesionType)
@pytest.mark.parametrize("pathology", Pathology)
def test_columns_are_distributed_as_given(lesions, lesion_type, pathology):
    group = [x for x in lesions if x.lesion_type is lesion_type and x.pathology is pathology]
    shares = DESCRIPTORS[lesion_type][pathology]
    wanted, found = Counter(), Counter()
    for pair, share in shares.items():
        form, extent = pair.split(" ")
        wanted[frozenset(form.split("-")), frozenset(extent.split("-"))] += share / sum(shares.values())
    for lesion in group:
        found[frozenset(lesion.form.split("-")), frozenset(lesion.extent.split("-"))] += 1 / len(group)
    # Four standard errors, and room for the rows that are changed on purpose.
    for pair, share in wanted.items():
        assert found[pair] == pytest.approx(share, abs=0.02 + 4 * (share * (1 - share) / len(group)) ** 0.5)
    subtlety = np.bincount([x.subtlety for x in group], minlength=6)[1:] / len(group)
    assert subtlety == pytest.approx(GRADES[lesion_type][pathology]["subtlety"], abs=0.02 + 2 / len(group) ** 0.5)


def test_every_descriptor_is_in_the_vocabulary():
    known = {column.name: {*column.values, "NA"} for column in CLINICAL_COLUMNS}
    names = {
        LesionType.MASS: ("mass_shape", "mass_margins"),
        LesionType.CALCIFICATION: ("calc_type", "calc_distribution"),
    }
    for lesion_type, tables in DESCRIPTORS.items():
        for pair in {pair for shares in tables.values() for pair in shares}:
            for name, cell in zip(names[lesion_type], pair.split(" "), strict=True):
                assert set(cell.split("-")) <= known[name]


def test_hidden_part_is_separated_but_independent_of_the_columns(lesions):
    """Given the label, whoever has spiculated or pleomorphic findings is no more aggressive than the others."""
    labels = np.array([lesion.pathology.label for lesion in lesions])
    hidden = np.array([lesion.aggressiveness for lesion in lesions])
    difference = hidden[labels == 1].mean() - hidden[labels == 0].mean()
    assert difference == pytest.approx(HIDDEN_SEPARATION, abs=0.15)
    typical = np.array([x.extent == "SPICULATED" or "PLEOMORPHIC" in x.form for x in lesions])
    for label in (0, 1):
        inside = labels == label
        assert abs(hidden[inside & typical].mean() - hidden[inside & ~typical].mean()) < 0.15


def test_joined_values_come_in_either_order(lesions):
    joined = {lesion.form for lesion in lesions if "-" in lesion.form}
    assert any("-".join(reversed(form.split("-"))) in joined for form in joined)
