"""Calls at a threshold and their rates against hand counts and scikit-learn."""

import math

import pytest
from hypothesis import given
from sklearn import metrics as reference

from shared_model.metrics.confusion import ConfusionCounts, metric_at_threshold, sensitivity_at, specificity_at
from shared_model.metrics.counts import ClassCounts
from tests.scored_lesions import TOLERANCE, any_scores, columns, scored_lesions


class TestConfusionCounts:
    @given(scored_lesions.filter(len), any_scores)
    def test_equals_scikit_learn(self, rows, threshold):
        labels, scores = columns(rows)
        counts = ConfusionCounts.from_scores(labels, scores, threshold)
        (tn, fp), (fn, tp) = reference.confusion_matrix(labels, scores >= threshold, labels=[0, 1])
        assert (counts.tp, counts.fp, counts.tn, counts.fn) == (tp, fp, tn, fn)

    def test_sensitivity_and_specificity_by_hand(self):
        counts = ConfusionCounts(tp=3, fp=1, tn=4, fn=1)
        assert (counts.sensitivity, counts.specificity) == (0.75, 0.8)

    def test_without_a_class_its_rate_is_none(self):
        assert ConfusionCounts(tp=0, fp=1, tn=1, fn=0).sensitivity is None
        assert ConfusionCounts(tp=1, fp=0, tn=0, fn=1).specificity is None

    def test_refuses_nan_threshold_and_negative_counts(self):
        with pytest.raises(ValueError, match="threshold=nan to be a number"):
            ConfusionCounts.from_scores([0, 1], [0.2, 0.8], math.nan)
        with pytest.raises(ValueError, match="fn=-1 >= 0"):
            ConfusionCounts(tp=0, fp=0, tn=0, fn=-1)


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
            prevalence = labels.mean()
            assert counts.ppv(prevalence) == pytest.approx(counts.ppv(), abs=TOLERANCE)
            assert counts.npv(prevalence) == pytest.approx(counts.npv(), abs=TOLERANCE)

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


class TestMetricsAtAThreshold:
    @given(scored_lesions, any_scores)
    def test_are_the_rates_of_the_calls(self, rows, threshold):
        labels, scores = columns(rows)
        counts, calls = ClassCounts.from_scores(labels, scores), scores >= threshold
        is_malignant = labels == 1
        expected_sensitivity = calls[is_malignant].mean() if is_malignant.any() else None
        expected_specificity = (~calls[~is_malignant]).mean() if not is_malignant.all() else None
        assert sensitivity_at(threshold)(counts) == (
            None if expected_sensitivity is None else pytest.approx(expected_sensitivity, abs=TOLERANCE)
        )
        assert specificity_at(threshold)(counts) == (
            None if expected_specificity is None else pytest.approx(expected_specificity, abs=TOLERANCE)
        )

    def test_take_any_rate(self):
        counts = ClassCounts.from_scores([0, 0, 1, 1], [0.1, 0.6, 0.6, 0.9])
        assert metric_at_threshold(0.5, lambda calls: calls.ppv())(counts) == pytest.approx(2 / 3)
