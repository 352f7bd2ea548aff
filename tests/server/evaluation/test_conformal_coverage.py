"""Coverage of conformal sets: against a count by hand, near its level, and no patient makes a set of its own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from server.evaluation.conformal_coverage import (
    MIN_PATIENTS,
    NUM_FOLDS,
    PossibleLabels,
    coverage_by_level,
    deal_folds,
    first_lesions,
    measured_coverage,
    possible_labels,
)
from server.evaluation.predictions import Predictions


def cohort(num_patients=120, lesions_each=2, seed=0, shift=2.0):
    generator = np.random.default_rng(seed)
    patients = np.repeat(np.arange(num_patients), lesions_each)
    labels = patients % 2
    scores = 1 / (1 + np.exp(-generator.normal(shift * (labels - 0.5))))
    return labels, scores, patients


def p_value(others, own):
    """The share of lesions, this one among them, that are at least as strange: counted one by one."""
    return (sum(1 for other in others if other >= own) + 1) / (len(others) + 1)


def test_sets_are_those_counted_one_by_one():
    labels, scores, patients = cohort()
    folds = deal_folds(patients, np.random.default_rng(3))
    found = possible_labels(labels, scores, patients, folds=folds, level=0.85)
    seen, rows = set(), []
    for row, patient in enumerate(patients):
        if patient not in seen:
            rows.append(row)
        seen.add(patient)
    for row in range(len(labels)):
        others = [other for other in rows if folds[other] != folds[row]]
        benign = [scores[other] for other in others if labels[other] == 0]
        malignant = [-scores[other] for other in others if labels[other] == 1]
        assert found.has_benign[row] == (p_value(benign, scores[row]) > 0.15)
        assert found.has_malignant[row] == (p_value(malignant, -scores[row]) > 0.15)


def test_parts_hold_whole_patients_and_are_about_equal():
    _, _, patients = cohort(num_patients=103, lesions_each=3)
    folds = deal_folds(patients, np.random.default_rng(0))
    assert all(len(set(folds[patients == patient])) == 1 for patient in set(patients))
    sizes = [len(set(patients[folds == fold])) for fold in range(NUM_FOLDS)]
    assert max(sizes) - min(sizes) <= 1


def test_a_patient_with_both_classes_counts_once_in_each():
    assert first_lesions(np.array([1, 0, 1, 0, 0]), np.array([4, 4, 4, 2, 2])).tolist() == [0, 1, 3]


@given(st.integers(0, 119), st.floats(0, 1), st.floats(0.5, 0.99))
def test_what_a_patient_scores_changes_no_set_of_its_own(patient, score, level):
    labels, scores, patients = cohort()
    folds = deal_folds(patients, np.random.default_rng(0))
    first, second = np.flatnonzero(patients == patient)
    before = possible_labels(labels, scores, patients, folds=folds, level=level)
    scores[first] = score
    after = possible_labels(labels, scores, patients, folds=folds, level=level)
    assert before.has_benign[second] == after.has_benign[second]
    assert before.has_malignant[second] == after.has_malignant[second]


@given(st.floats(0.5, 0.98), st.floats(0.001, 0.02))
def test_a_higher_level_takes_no_label_out(level, more):
    labels, scores, patients = cohort()
    folds = deal_folds(patients, np.random.default_rng(0))
    lower = possible_labels(labels, scores, patients, folds=folds, level=level)
    higher = possible_labels(labels, scores, patients, folds=folds, level=level + more)
    assert (higher.has_benign >= lower.has_benign).all()
    assert (higher.has_malignant >= lower.has_malignant).all()


def test_the_coverage_is_near_the_level_for_either_class():
    labels, scores, patients = cohort(num_patients=1200, lesions_each=1)
    test = Predictions(labels=labels, scores=scores, patients=patients, attributes={})
    for found in coverage_by_level(test, num_resamples=50, seed=0):
        # Four standard errors of a share of 600.
        slack = 4 * np.sqrt(found.level * (1 - found.level) / 600)
        for share in (found.coverage, found.coverage_benign, found.coverage_malignant):
            assert share.value == pytest.approx(found.level, abs=slack)
            assert share.interval.low <= share.value <= share.interval.high


def test_shares_by_hand():
    possible = PossibleLabels(
        has_benign=np.array([True, True, False, False, False]), has_malignant=np.array([False, True, False, True, True])
    )
    found = measured_coverage(
        np.array([0, 0, 0, 1, 1]),
        possible,
        np.arange(5),
        level=0.9,
        num_resamples=50,
        generator=np.random.default_rng(0),
    )
    assert (found.num_benign, found.num_malignant) == (3, 2)
    assert found.coverage.value == 4 / 5
    assert (found.coverage_benign.value, found.coverage_malignant.value) == (pytest.approx(2 / 3), 1)
    # Nobody was missed, of two patients: that is not sure.
    assert found.coverage_malignant.interval.low == pytest.approx(beta.ppf(0.025, 2, 1))
    assert (found.abstained.value, found.answered_right.value) == (2 / 5, 1)


def test_without_an_answer_there_is_no_share_of_right_ones():
    possible = PossibleLabels(has_benign=np.ones(4, dtype=bool), has_malignant=np.ones(4, dtype=bool))
    found = measured_coverage(
        np.array([0, 0, 1, 1]), possible, np.arange(4), level=0.9, num_resamples=9, generator=np.random.default_rng(0)
    )
    assert found.answered_right is None
    assert (found.coverage.value, found.abstained.value) == (1, 1)


def test_more_lesions_of_the_same_patients_change_nothing():
    labels, scores, patients = cohort(lesions_each=1)
    once, again = (
        coverage_by_level(
            Predictions(
                labels=np.repeat(labels, copies), scores=np.repeat(scores, copies),
                patients=np.repeat(patients, copies), attributes={},
            ),
            num_resamples=50, seed=0,
        )
        for copies in (1, 5)
    )  # fmt: skip
    assert once == again


@pytest.mark.parametrize("num_malignant", [0, MIN_PATIENTS - 1])
def test_too_few_patients_of_a_class_say_nothing(num_malignant):
    labels = np.array([1] * num_malignant + [0] * 100)
    # Many lesions are not many patients.
    labels = np.repeat(labels, 3)
    test = Predictions(
        labels=labels, scores=np.full(len(labels), 0.5), patients=np.arange(len(labels)) // 3, attributes={}
    )
    assert coverage_by_level(test, num_resamples=5, seed=0) == ()
