"""Breasts and patients are as malignant, and score as high, as their worst lesion."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from server.evaluation.worst_lesion import score_by_worst_lesion

LESIONS = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1), st.integers(0, 5)), min_size=1, max_size=30)


def columns(rows):
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def as_tuples(units):
    return list(zip(units.labels.tolist(), units.scores.tolist(), strict=True))


def test_by_hand():
    units = score_by_worst_lesion([0, 1, 0, 0], [0.2, 0.1, 0.7, 0.3], [7, 7, 3, 3])
    assert units.labels.tolist() == [0, 1]
    assert units.scores.tolist() == [0.7, 0.2]
    assert units.first_rows.tolist() == [2, 0]


@given(LESIONS)
def test_equals_a_loop(rows):
    labels, scores, patients = columns(rows)
    units = score_by_worst_lesion(labels, scores, patients)
    numbers = sorted(set(patients))
    assert units.labels.tolist() == [max(labels[patients == number]) for number in numbers]
    assert units.scores.tolist() == [max(scores[patients == number]) for number in numbers]
    assert patients[units.first_rows].tolist() == numbers


@given(LESIONS)
def test_the_row_of_a_unit_is_its_first(rows):
    _, _, patients = columns(rows)
    found = score_by_worst_lesion(*columns(rows)).first_rows
    assert found.tolist() == [patients.tolist().index(number) for number in sorted(set(patients))]


@given(LESIONS)
def test_units_of_single_lesions_are_those_lesions(rows):
    labels, scores, _ = columns(rows)
    units = score_by_worst_lesion(labels, scores, np.arange(len(rows)))
    assert as_tuples(units) == list(zip(labels.tolist(), scores.tolist(), strict=True))


@given(LESIONS)
def test_one_unit_of_all_lesions(rows):
    labels, scores, _ = columns(rows)
    units = score_by_worst_lesion(labels, scores, np.zeros(len(rows), dtype=np.int64))
    assert as_tuples(units) == [(labels.max(), scores.max())]


@given(LESIONS, st.randoms(use_true_random=False))
def test_the_order_of_lesions_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert as_tuples(score_by_worst_lesion(*columns(rows))) == as_tuples(score_by_worst_lesion(*columns(shuffled)))


@given(LESIONS)
def test_a_benign_lesion_of_score_zero_changes_nothing(rows):
    labels, scores, patients = columns(rows)
    more = score_by_worst_lesion([*labels, 0], [*scores, 0.0], [*patients, patients[0]])
    assert as_tuples(more) == as_tuples(score_by_worst_lesion(labels, scores, patients))


@given(LESIONS)
def test_gathering_by_breast_and_then_by_patient_equals_gathering_by_patient(rows):
    labels, scores, breasts = columns(rows)
    patients = breasts // 2
    by_breast = score_by_worst_lesion(labels, scores, breasts)
    again = score_by_worst_lesion(by_breast.labels, by_breast.scores, patients[by_breast.first_rows])
    assert as_tuples(again) == as_tuples(score_by_worst_lesion(labels, scores, patients))


def test_copies_of_a_lesion_do_not_move_the_auc_by_patient():
    generator = np.random.default_rng(0)
    labels, scores = generator.integers(0, 2, 40), generator.random(40)
    units = score_by_worst_lesion(np.repeat(labels, 3), np.repeat(scores, 3), np.repeat(np.arange(40), 3))
    assert roc_auc_score(units.labels, units.scores) == roc_auc_score(labels, scores)


@pytest.mark.parametrize(
    ("labels", "scores", "units", "message"),
    [
        ([0, 1], [0.1, 0.2], [1], "units of shape"),
        ([0, 2], [0.1, 0.2], [1, 1], "label to be 0"),
        ([0, 1], [0.1, float("nan")], [1, 1], "finite"),
        ([0, 1], [0.1], [1, 1], "shape|length|as many"),
    ],
)
def test_what_is_no_lesion_is_refused(labels, scores, units, message):
    with pytest.raises(ValueError, match=message):
        score_by_worst_lesion(labels, scores, units)
