"""Counts of lesions by class and score against hand counts and a loop."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given

from shared_model.metrics.counts import ClassCounts, check_scores
from tests.scored_lesions import columns, scored_lesions


def test_counts_by_hand():
    counts = ClassCounts.from_scores([0, 1, 1, 0], [0.5, 0.5, -2.0, 7.0])
    assert counts.scores.tolist() == [-2.0, 0.5, 7.0]
    assert counts.negatives.tolist() == [0, 1, 1]
    assert counts.positives.tolist() == [1, 1, 0]
    assert (counts.num_negatives, counts.num_positives, counts.num_lesions, counts.prevalence) == (2, 2, 4, 0.5)
    assert counts.negatives.dtype == counts.positives.dtype == np.int64


@given(scored_lesions)
def test_counts_equal_a_loop(rows):
    counts = ClassCounts.from_scores(*columns(rows))
    expected = Counter(rows)
    assert counts.scores.tolist() == sorted({score for _, score in rows})
    for label, found in ((0, counts.negatives), (1, counts.positives)):
        assert found.tolist() == [expected[label, score] for score in counts.scores.tolist()]


def test_knows_whether_both_classes_are_there():
    scores = np.array([0.1, 0.2])
    zeros, ones = np.zeros(2, dtype=np.int64), np.ones(2, dtype=np.int64)
    assert ClassCounts(scores=scores, negatives=ones, positives=ones).has_both_classes
    assert not ClassCounts(scores=scores, negatives=ones, positives=zeros).has_both_classes


@pytest.mark.parametrize(("labels", "message"), [([0, 0], "2 benign, 0 malignant"), ([1, 1], "0 benign, 2 malignant")])
def test_one_class_can_be_counted_and_refused(labels, message):
    counts = ClassCounts.from_scores(labels, [0.1, 0.2])
    with pytest.raises(ValueError, match=f"both classes, got {message}"):
        counts.require_both_classes()
    ClassCounts.from_scores([0, 1], [0.1, 0.2]).require_both_classes()


def test_checked_scores_are_bool_and_float64():
    is_malignant, scores = check_scores([0, 1], [1, 2])
    assert is_malignant.tolist() == [False, True]
    assert scores.tolist() == [1.0, 2.0]
    assert (is_malignant.dtype, scores.dtype) == (np.bool_, np.float64)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1], [0.5], r"shape \(2,\) and scores of shape \(1,\)"),
        ([[0]], [[0.5]], r"to be equal \(N,\)"),
        ([0, 2], [0.5, 0.5], "0 .benign. or 1 .malignant."),
        ([0, math.nan], [0.5, 0.5], "0 .benign. or 1 .malignant."),
        ([0, 1], [math.inf, math.nan], "finite scores, got 2"),
    ],
)
def test_impossible_labels_and_scores_are_refused(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        ClassCounts.from_scores(labels, scores)
