"""Metrics of exact histograms against those of the scores themselves and scikit-learn."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from server.evaluation.exact_histograms import (
    auroc,
    auroc_binning_bound,
    confusion_counts,
    threshold_for_sensitivity,
)
from shared_model.metrics import roc
from shared_model.metrics.confusion import ConfusionCounts
from shared_model.metrics.score_histogram import ScoreHistogram
from tests.scored_lesions import TOLERANCE, bin_numbers, both_classes, columns, scored_lesions


class TestAuroc:
    @given(both_classes, bin_numbers)
    def test_misses_the_exact_one_by_no_more_than_the_bound(self, rows, num_bins):
        histogram = ScoreHistogram.from_scores(*columns(rows), num_bins)
        miss = abs(auroc(histogram) - roc.auroc(*columns(rows)))
        assert miss <= auroc_binning_bound(histogram) + TOLERANCE

    @given(both_classes, bin_numbers)
    def test_equals_scikit_learn_on_the_bins(self, rows, num_bins):
        labels, scores = columns(rows)
        bins = [max(b for b in range(num_bins) if b / num_bins <= score) for score in scores]
        histogram = ScoreHistogram.from_scores(labels, scores, num_bins)
        assert auroc(histogram) == pytest.approx(reference.roc_auc_score(labels, bins), abs=TOLERANCE)

    def test_the_bound_is_reached_when_every_pair_shares_a_bin(self):
        histogram = ScoreHistogram.from_scores([0, 1], [0.1, 0.2], 1)
        assert auroc(histogram) == auroc_binning_bound(histogram) == 0.5

    def test_the_bound_by_hand(self):
        histogram = ScoreHistogram(negatives=np.array([3, 1]), positives=np.array([1, 4]))
        assert auroc_binning_bound(histogram) == pytest.approx(0.5 * (3 * 1 + 1 * 4) / (4 * 5), abs=TOLERANCE)

    @pytest.mark.parametrize(("labels", "scores"), [([], []), ([1], [0.5]), ([0], [0.5]), ([1, 1], [0.1, 0.2])])
    def test_one_class_has_none(self, labels, scores):
        histogram = ScoreHistogram.from_scores(labels, scores, 10)
        assert auroc(histogram) is None
        assert auroc_binning_bound(histogram) is None

    def test_a_large_federation_does_not_overflow(self):
        counts = np.array([2**40, 2**40])
        assert auroc(ScoreHistogram(negatives=counts, positives=counts)) == 0.5


class TestConfusionCounts:
    @given(scored_lesions, bin_numbers, st.data())
    def test_the_histogram_is_exact_at_bin_edges(self, rows, num_bins, data):
        threshold = data.draw(st.integers(0, num_bins - 1)) / num_bins
        histogram = ScoreHistogram.from_scores(*columns(rows), num_bins)
        assert confusion_counts(histogram, threshold) == ConfusionCounts.from_scores(*columns(rows), threshold)

    @pytest.mark.parametrize("threshold", [0.55, 1.0, -0.1, math.nan])
    def test_a_threshold_inside_a_bin_is_an_error(self, threshold):
        histogram = ScoreHistogram.from_scores([0, 1], [0.2, 0.8], 10)
        with pytest.raises(ValueError, match=f"threshold={threshold} at the lower edge of one of 10 bins"):
            confusion_counts(histogram, threshold)


class TestThresholdForSensitivity:
    def test_by_hand(self):
        histogram = ScoreHistogram.from_scores([1] * 10, np.arange(10) / 10, 10)
        assert threshold_for_sensitivity(histogram, 0.9) == 0.1
        assert threshold_for_sensitivity(histogram, 1.0) == 0.0
        assert threshold_for_sensitivity(histogram, 0.05) == 0.9

    @given(both_classes, bin_numbers, st.floats(0.01, 1))
    def test_is_the_highest_edge_that_reaches_the_target(self, rows, num_bins, target):
        histogram = ScoreHistogram.from_scores(*columns(rows), num_bins)
        edges = [b / num_bins for b in range(num_bins)]
        reaching = [t for t in edges if ConfusionCounts.from_scores(*columns(rows), t).sensitivity >= target]
        assert threshold_for_sensitivity(histogram, target) == max(reaching)

    def test_needs_a_malignant_lesion(self):
        with pytest.raises(ValueError, match="at least one malignant lesion"):
            threshold_for_sensitivity(ScoreHistogram.from_scores([0, 0], [0.1, 0.2], 10), 0.9)

    @pytest.mark.parametrize("target", [0.0, -1.0, 1.1, math.nan])
    def test_needs_a_target_in_range(self, target):
        with pytest.raises(ValueError, match=f"target_sensitivity={target} in"):
            threshold_for_sensitivity(ScoreHistogram.from_scores([1], [0.1], 10), target)
