"""ROC curve and AUROC against hand counts, scikit-learn and a loop over pairs."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from sklearn import metrics as reference

from shared_model.metrics.confusion import ConfusionCounts
from shared_model.metrics.counts import ClassCounts
from shared_model.metrics.roc import auroc, auroc_from_counts, roc_curve
from shared_model.metrics.score_histogram import ScoreHistogram
from tests.scored_lesions import TOLERANCE, bin_numbers, both_classes, columns


def pairwise_auroc(labels, scores):
    benign = [score for label, score in zip(labels, scores, strict=True) if not label]
    malignant = [score for label, score in zip(labels, scores, strict=True) if label]
    worth = sum(Fraction((m > b) * 2 + (m == b), 2) for m in malignant for b in benign)
    return float(worth / (len(benign) * len(malignant)))


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
    def test_one_class_is_an_error(self, labels, scores):
        with pytest.raises(ValueError, match="Expected lesions of both classes"):
            auroc(labels, scores)
        with pytest.raises(ValueError, match="Expected lesions of both classes"):
            auroc_from_counts(ClassCounts.from_scores(labels, scores))
        with pytest.raises(ValueError, match="Expected lesions of both classes"):
            roc_curve(ClassCounts.from_scores(labels, scores))


class TestRocCurve:
    @given(both_classes)
    def test_equals_scikit_learn(self, rows):
        labels, scores = columns(rows)
        curve = roc_curve(ClassCounts.from_scores(labels, scores))
        expected = reference.roc_curve(labels, scores, drop_intermediate=False)
        for ours, theirs in zip(
            (curve.false_positive_rate, curve.sensitivity, curve.thresholds), expected, strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)

    @given(both_classes)
    def test_encloses_the_auroc(self, rows):
        curve = roc_curve(ClassCounts.from_scores(*columns(rows)))
        area = np.trapezoid(curve.sensitivity, curve.false_positive_rate)
        assert area == pytest.approx(auroc(*columns(rows)), abs=TOLERANCE)

    @given(both_classes, bin_numbers)
    def test_of_a_histogram_passes_through_points_of_the_exact_curve(self, rows, num_bins):
        labels, scores = columns(rows)
        curve = roc_curve(ScoreHistogram.from_scores(labels, scores, num_bins).class_counts)
        for rate, sensitivity, threshold in zip(
            curve.false_positive_rate, curve.sensitivity, curve.thresholds, strict=True
        ):
            counts = ConfusionCounts.from_scores(labels, scores, threshold)
            assert (1 - counts.specificity, counts.sensitivity) == pytest.approx((rate, sensitivity), abs=TOLERANCE)
