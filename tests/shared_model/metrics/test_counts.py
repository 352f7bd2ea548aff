"""Metrics against hand counts, scikit-learn, naive double loops and the laws in the docstrings."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from shared_model.metrics import counts as metrics
from shared_model.metrics.counts import (
    ClassCounts,
    ConfusionCounts,
    Interval,
    ScoreHistogram,
    auroc,
    auroc_binning_error,
    auroc_from_histogram,
    roc_curve,
    roc_curve_from_histogram,
    threshold_for_sensitivity,
)

TOLERANCE = 1e-12
grid_scores = st.integers(0, 20).map(lambda step: step / 20)
any_scores = grid_scores | st.floats(0, 1)
scored_lesions = st.lists(st.tuples(st.integers(0, 1), any_scores), max_size=40)
both_classes = scored_lesions.filter(lambda rows: {label for label, _ in rows} == {0, 1})
bin_counts = st.integers(1, 50)


def columns(rows):
    return np.array([label for label, _ in rows], dtype=int), np.array([score for _, score in rows], dtype=float)


def pairwise_auroc(labels, scores):
    benign = [score for label, score in zip(labels, scores, strict=True) if not label]
    malignant = [score for label, score in zip(labels, scores, strict=True) if label]
    worth = sum(Fraction((m > b) * 2 + (m == b), 2) for m in malignant for b in benign)
    return float(worth / (len(benign) * len(malignant)))


class TestScoreHistogram:
    def test_counts_by_hand(self):
        histogram = ScoreHistogram.from_scores([0, 0, 1, 1, 1], [0.0, 0.25, 0.24, 0.5, 1.0], 4)
        assert histogram.negatives.tolist() == [1, 1, 0, 0]
        assert histogram.positives.tolist() == [1, 0, 1, 1]
        assert (histogram.num_bins, histogram.num_lesions) == (4, 5)
        assert histogram.negatives.dtype == histogram.positives.dtype == np.int64

    @pytest.mark.parametrize("num_bins", [1, 7, 10, 100, 1000])
    def test_a_score_on_an_edge_falls_into_the_bin_above(self, num_bins):
        edges = np.array([b / num_bins for b in range(num_bins)])
        histogram = ScoreHistogram.from_scores(np.ones(num_bins), edges, num_bins)
        assert histogram.positives.tolist() == [1] * num_bins

    def test_no_scores_give_an_empty_histogram(self):
        histogram = ScoreHistogram.from_scores([], [], 5)
        assert histogram.num_lesions == 0
        assert histogram.negatives.tolist() == histogram.positives.tolist() == [0] * 5

    @given(scored_lesions, scored_lesions, scored_lesions, bin_counts)
    def test_sites_add_up_in_any_order(self, first, second, third, num_bins):
        a, b, c = (ScoreHistogram.from_scores(*columns(rows), num_bins) for rows in (first, second, third))
        together = ScoreHistogram.from_scores(*columns(first + second + third), num_bins)
        for total in ((a + b) + c, a + (b + c), c + b + a):
            np.testing.assert_array_equal(total.negatives, together.negatives)
            np.testing.assert_array_equal(total.positives, together.positives)

    def test_different_bins_do_not_add(self):
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
    def test_refuses_impossible_counts(self, negatives, positives, message):
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
    def test_refuses_impossible_scores(self, labels, scores, num_bins, message):
        with pytest.raises(ValueError, match=message):
            ScoreHistogram.from_scores(labels, scores, num_bins)


class TestAuroc:
    @pytest.mark.parametrize(
        ("labels", "scores", "expected"),
        [
            ([0, 1], [0.1, 0.9], 1.0),
            ([0, 1], [0.9, 0.1], 0.0),
            ([0, 1], [0.5, 0.5], 0.5),
            ([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], 0.75),
            ([0, 1, 1], [0.2, 0.2, 0.3], 0.75),
        ],
    )
    def test_by_hand(self, labels, scores, expected):
        assert auroc(labels, scores) == expected

    @pytest.mark.parametrize("num_steps", [None, 1, 2, 10])
    @pytest.mark.parametrize("seed", range(5))
    def test_equals_scikit_learn(self, cohort, seed, num_steps):
        labels, scores, _ = cohort(seed, num_steps=num_steps)
        assert auroc(labels, scores) == pytest.approx(reference.roc_auc_score(labels, scores), abs=TOLERANCE)

    @given(both_classes)
    def test_equals_the_double_loop_over_pairs(self, rows):
        assert auroc(*columns(rows)) == pytest.approx(pairwise_auroc(*columns(rows)), abs=TOLERANCE)

    @given(both_classes)
    def test_an_increasing_transform_changes_nothing(self, rows):
        labels, scores = columns(rows)
        ranks = np.unique(scores, return_inverse=True)[1]
        assert auroc(labels, 3.0 * ranks - 100) == auroc(labels, scores)
        assert auroc(labels, ranks.astype(float) ** 3) == auroc(labels, scores)

    @given(both_classes)
    def test_reversing_scores_or_labels_gives_the_complement(self, rows):
        labels, scores = columns(rows)
        assert auroc(labels, -scores) == pytest.approx(1 - auroc(labels, scores), abs=TOLERANCE)
        assert auroc(1 - labels, scores) == pytest.approx(1 - auroc(labels, scores), abs=TOLERANCE)

    @pytest.mark.parametrize(("labels", "scores"), [([], []), ([1], [0.5]), ([0], [0.5]), ([1, 1], [0.1, 0.2])])
    def test_one_class_is_an_error_for_scores_and_none_for_histograms(self, labels, scores):
        with pytest.raises(ValueError, match="Expected lesions of both classes"):
            auroc(labels, scores)
        with pytest.raises(ValueError, match="Expected lesions of both classes"):
            roc_curve(labels, scores)
        histogram = ScoreHistogram.from_scores(labels, scores, 10)
        assert auroc_from_histogram(histogram) is None
        assert auroc_binning_error(histogram) is None
        assert roc_curve_from_histogram(histogram) is None


class TestAurocFromHistogram:
    @given(both_classes, bin_counts)
    def test_misses_the_exact_one_by_no_more_than_the_bound(self, rows, num_bins):
        histogram = ScoreHistogram.from_scores(*columns(rows), num_bins)
        miss = abs(auroc_from_histogram(histogram) - auroc(*columns(rows)))
        assert miss <= auroc_binning_error(histogram) + TOLERANCE

    @given(both_classes, bin_counts)
    def test_equals_scikit_learn_on_the_bins(self, rows, num_bins):
        labels, scores = columns(rows)
        bins = [max(b for b in range(num_bins) if b / num_bins <= score) for score in scores]
        histogram = ScoreHistogram.from_scores(labels, scores, num_bins)
        assert auroc_from_histogram(histogram) == pytest.approx(reference.roc_auc_score(labels, bins), abs=TOLERANCE)

    def test_the_bound_is_reached_when_every_pair_shares_a_bin(self):
        histogram = ScoreHistogram.from_scores([0, 1], [0.1, 0.2], 1)
        assert auroc_from_histogram(histogram) == auroc_binning_error(histogram) == 0.5

    def test_the_bound_by_hand(self):
        histogram = ScoreHistogram(negatives=np.array([3, 1]), positives=np.array([1, 4]))
        assert auroc_binning_error(histogram) == pytest.approx(0.5 * (3 * 1 + 1 * 4) / (4 * 5), abs=TOLERANCE)

    def test_a_large_federation_does_not_overflow(self):
        counts = np.array([2**40, 2**40])
        assert auroc_from_histogram(ScoreHistogram(negatives=counts, positives=counts)) == 0.5


class TestConfusionCounts:
    @given(scored_lesions.filter(len), any_scores)
    def test_equals_scikit_learn(self, rows, threshold):
        labels, scores = columns(rows)
        counts = ConfusionCounts.from_scores(labels, scores, threshold)
        (tn, fp), (fn, tp) = reference.confusion_matrix(labels, scores >= threshold, labels=[0, 1])
        assert (counts.tp, counts.fp, counts.tn, counts.fn) == (tp, fp, tn, fn)

    @given(scored_lesions, bin_counts, st.data())
    def test_the_histogram_is_exact_at_bin_edges(self, rows, num_bins, data):
        threshold = data.draw(st.integers(0, num_bins - 1)) / num_bins
        histogram = ScoreHistogram.from_scores(*columns(rows), num_bins)
        assert ConfusionCounts.from_histogram(histogram, threshold) == ConfusionCounts.from_scores(
            *columns(rows), threshold
        )

    def test_sensitivity_and_specificity_by_hand(self):
        counts = ConfusionCounts(tp=3, fp=1, tn=4, fn=1)
        assert (counts.sensitivity, counts.specificity) == (0.75, 0.8)

    def test_without_a_class_its_rate_is_none(self):
        assert ConfusionCounts(tp=0, fp=1, tn=1, fn=0).sensitivity is None
        assert ConfusionCounts(tp=1, fp=0, tn=0, fn=1).specificity is None

    @pytest.mark.parametrize("threshold", [0.55, 1.0, -0.1, math.nan])
    def test_a_threshold_inside_a_bin_is_an_error(self, threshold):
        histogram = ScoreHistogram.from_scores([0, 1], [0.2, 0.8], 10)
        with pytest.raises(ValueError, match=f"threshold={threshold} at the lower edge of one of 10 bins"):
            ConfusionCounts.from_histogram(histogram, threshold)

    def test_refuses_nan_threshold_and_negative_counts(self):
        with pytest.raises(ValueError, match="threshold=nan to be a number"):
            ConfusionCounts.from_scores([0, 1], [0.2, 0.8], math.nan)
        with pytest.raises(ValueError, match="fn=-1 >= 0"):
            ConfusionCounts(tp=0, fp=0, tn=0, fn=-1)


class TestThresholdForSensitivity:
    def test_by_hand(self):
        histogram = ScoreHistogram.from_scores([1] * 10, np.arange(10) / 10, 10)
        assert threshold_for_sensitivity(histogram, 0.9) == 0.1
        assert threshold_for_sensitivity(histogram, 1.0) == 0.0
        assert threshold_for_sensitivity(histogram, 0.05) == 0.9

    @given(both_classes, bin_counts, st.floats(0.01, 1))
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


class TestRocCurve:
    @given(both_classes)
    def test_equals_scikit_learn(self, rows):
        labels, scores = columns(rows)
        curve = roc_curve(labels, scores)
        expected = reference.roc_curve(labels, scores, drop_intermediate=False)
        for ours, theirs in zip(
            (curve.false_positive_rate, curve.sensitivity, curve.thresholds), expected, strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)

    @given(both_classes)
    def test_encloses_the_auroc(self, rows):
        curve = roc_curve(*columns(rows))
        area = np.trapezoid(curve.sensitivity, curve.false_positive_rate)
        assert area == pytest.approx(auroc(*columns(rows)), abs=TOLERANCE)

    @given(both_classes, bin_counts)
    def test_of_a_histogram_passes_through_points_of_the_exact_curve(self, rows, num_bins):
        labels, scores = columns(rows)
        curve = roc_curve_from_histogram(ScoreHistogram.from_scores(labels, scores, num_bins))
        for rate, sensitivity, threshold in zip(
            curve.false_positive_rate, curve.sensitivity, curve.thresholds, strict=True
        ):
            counts = ConfusionCounts.from_scores(labels, scores, threshold)
            assert (1 - counts.specificity, counts.sensitivity) == pytest.approx((rate, sensitivity), abs=TOLERANCE)


class TestPredictiveValues:
    def test_equal_scikit_learn(self, cohort):
        for seed in range(20):
            labels, scores, _ = cohort(seed, num_lesions=50, num_steps=7)
            calls, counts = scores >= 0.5, ConfusionCounts.from_scores(labels, scores, 0.5)
            assert counts.ppv() == pytest.approx(reference.precision_score(labels, calls), abs=TOLERANCE)
            assert counts.npv() == pytest.approx(reference.precision_score(1 - labels, ~calls), abs=TOLERANCE)
            assert counts.f1 == pytest.approx(reference.f1_score(labels, calls), abs=TOLERANCE)
            assert counts.balanced_accuracy == pytest.approx(
                reference.balanced_accuracy_score(labels, calls), abs=TOLERANCE
            )
            own = labels.mean()
            assert counts.ppv(own) == pytest.approx(counts.ppv(), abs=TOLERANCE)
            assert counts.npv(own) == pytest.approx(counts.npv(), abs=TOLERANCE)

    def test_at_another_prevalence_by_hand(self):
        counts = ConfusionCounts(tp=9, fn=1, fp=20, tn=80)
        # Of 1000 women 10 have cancer: 9 are found, with 198 false alarms; 792 are rightly sent home, 1 wrongly.
        assert counts.ppv(0.01) == pytest.approx(9 / (9 + 198))
        assert counts.npv(0.01) == pytest.approx(792 / 793)

    def test_are_none_where_nothing_is_called(self):
        nothing_called = ConfusionCounts(tp=0, fn=3, fp=0, tn=2)
        assert (nothing_called.ppv(), nothing_called.ppv(0.1)) == (None, None)
        assert (nothing_called.npv(), nothing_called.f1) == (0.4, 0.0)
        only_benign = ConfusionCounts(tp=0, fn=0, fp=0, tn=2)
        assert (only_benign.ppv(), only_benign.f1, only_benign.npv(0.1), only_benign.balanced_accuracy) == (None,) * 4


class TestInterval:
    @pytest.mark.parametrize(("low", "high"), [(0.6, 0.5), (math.nan, 0.5), (0.1, math.nan), (0.1, math.inf)])
    def test_is_ordered_and_finite(self, low, high):
        with pytest.raises(ValueError, match=f"finite low={low} <= high={high}"):
            Interval(low=low, high=high)


class TestClassCounts:
    def test_knows_whether_both_classes_are_there(self):
        scores = np.array([0.1, 0.2])
        zeros, ones = np.zeros(2, dtype=np.int64), np.ones(2, dtype=np.int64)
        assert ClassCounts(scores=scores, negatives=ones, positives=ones).has_both_classes
        assert not ClassCounts(scores=scores, negatives=ones, positives=zeros).has_both_classes


class TestExactThreshold:
    @pytest.mark.parametrize(("target", "expected"), [(1.0, 0.1), (0.9, 0.2), (0.5, 0.6), (0.01, 1.0)])
    def test_hand_numbers(self, target, expected):
        scores = np.arange(1, 11) / 10
        labels = np.ones(10)
        assert metrics.exact_threshold_for_sensitivity(labels, scores, target) == pytest.approx(expected)

    @given(seed=st.integers(0, 2**32 - 1), target=st.floats(0.01, 1))
    def test_is_the_highest_that_reaches_the_target(self, seed, target):
        rng = np.random.default_rng(seed)
        labels, scores = np.append(rng.integers(0, 2, 30), 1), rng.integers(0, 12, 31) / 11
        threshold = metrics.exact_threshold_for_sensitivity(labels, scores, target)
        reached = [s for s in np.unique(scores) if (scores[labels == 1] >= s).mean() >= target - 1e-9]
        assert threshold == max(reached)

    def test_needs_a_malignant_lesion(self):
        with pytest.raises(ValueError, match="at least one malignant"):
            metrics.exact_threshold_for_sensitivity([0, 0], [0.1, 0.2], 0.9)
