"""Score histograms: hand counts, edges, sums over sites, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given

from shared_model.metrics.score_histogram import ScoreHistogram, binned_scores, lower_edges
from tests.scored_lesions import bin_numbers, columns, scored_lesions


def test_counts_by_hand():
    histogram = ScoreHistogram.from_scores([0, 0, 1, 1, 1], [0.0, 0.25, 0.24, 0.5, 1.0], 4)
    assert histogram.negatives.tolist() == [1, 1, 0, 0]
    assert histogram.positives.tolist() == [1, 0, 1, 1]
    assert (histogram.num_bins, histogram.num_lesions) == (4, 5)
    assert histogram.negatives.dtype == histogram.positives.dtype == np.int64


@pytest.mark.parametrize("num_bins", [1, 7, 10, 100, 1000])
def test_a_score_on_an_edge_falls_into_the_bin_above(num_bins):
    edges = np.array([b / num_bins for b in range(num_bins)])
    histogram = ScoreHistogram.from_scores(np.ones(num_bins), edges, num_bins)
    assert histogram.positives.tolist() == [1] * num_bins


def test_no_scores_give_an_empty_histogram():
    histogram = ScoreHistogram.from_scores([], [], 5)
    assert histogram.num_lesions == 0
    assert histogram.negatives.tolist() == histogram.positives.tolist() == [0] * 5


@given(scored_lesions, scored_lesions, scored_lesions, bin_numbers)
def test_sites_add_up_in_any_order(first, second, third, num_bins):
    a, b, c = (ScoreHistogram.from_scores(*columns(rows), num_bins) for rows in (first, second, third))
    together = ScoreHistogram.from_scores(*columns(first + second + third), num_bins)
    for total in ((a + b) + c, a + (b + c), c + b + a):
        np.testing.assert_array_equal(total.negatives, together.negatives)
        np.testing.assert_array_equal(total.positives, together.positives)


def test_different_bins_do_not_add():
    with pytest.raises(ValueError, match="as many bins, got 3 and 4"):
        ScoreHistogram.from_scores([1], [0.5], 3) + ScoreHistogram.from_scores([1], [0.5], 4)


@pytest.mark.parametrize(
    ("negatives", "positives", "message"),
    [
        (np.array([1, -1]), np.array([0, 0]), "negatives >= 0, got -1"),
        (np.array([1, 1]), np.array([0, -3]), "positives >= 0, got -3"),
        (np.array([1, 1]), np.array([0]), "to be the same"),
        (np.array([], dtype=np.int64), np.array([], dtype=np.int64), "num_bins >= 1"),
        (np.zeros((2, 2), dtype=np.int64), np.zeros((2, 2), dtype=np.int64), "to be the same"),
        (np.array([1.0, 1.0]), np.array([0, 0]), "negatives of int64, got float64"),
    ],
)
def test_refuses_impossible_counts(negatives, positives, message):
    with pytest.raises(ValueError, match=message):
        ScoreHistogram(negatives=negatives, positives=positives)


@pytest.mark.parametrize(
    ("labels", "scores", "num_bins", "message"),
    [
        ([0, 1], [0.5], 10, r"shape \(2,\) and scores of shape \(1,\)"),
        ([[0]], [[0.5]], 10, r"to be equal \(N,\)"),
        ([0, 2], [0.5, 0.5], 10, "0 .benign. or 1 .malignant."),
        ([0, math.nan], [0.5, 0.5], 10, "0 .benign. or 1 .malignant."),
        ([0, 1], [0.5, math.nan], 10, "finite scores, got 1"),
        ([0, 1], [math.inf, math.nan], 10, "finite scores, got 2"),
        ([0, 1], [0.5, 1.01], 10, r"scores in \[0, 1\], got \[0.5, 1.01\]"),
        ([0, 1], [-0.01, 0.5], 10, r"scores in \[0, 1\]"),
        ([0, 1], [0.5, 0.5], 0, "num_bins=0 >= 1"),
    ],
)
def test_refuses_impossible_scores(labels, scores, num_bins, message):
    with pytest.raises(ValueError, match=message):
        ScoreHistogram.from_scores(labels, scores, num_bins)


@given(scored_lesions, bin_numbers)
def test_a_score_lies_between_the_edges_of_its_bin(rows, num_bins):
    labels, scores = columns(rows)
    is_malignant, bins = binned_scores(labels, scores, num_bins)
    assert is_malignant.tolist() == [label == 1 for label in labels]
    for score, number in zip(scores.tolist(), bins.tolist(), strict=True):
        assert number == max(b for b in range(num_bins) if b / num_bins <= score)


def test_bins_begin_at_equal_distances_from_zero():
    assert lower_edges(4).tolist() == [0, 0.25, 0.5, 0.75]
    assert ScoreHistogram.from_scores([], [], 4).class_counts.scores.tolist() == [0, 0.25, 0.5, 0.75]
