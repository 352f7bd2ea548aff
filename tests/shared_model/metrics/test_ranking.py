"""Figures of ranking against scikit-learn and hand counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from shared_model.metrics.counts import ClassCounts
from shared_model.metrics.ranking import (
    average_precision,
    partial_auroc,
    precision_recall_curve,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
)
from shared_model.metrics.roc import auroc_from_counts

TOLERANCE = 1e-9
rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 12).map(lambda step: step / 12) | st.floats(0, 1)), max_size=40
).filter(lambda found: {label for label, _ in found} == {0, 1})


def columns(found):
    return np.array([label for label, _ in found]), np.array([score for _, score in found])


@given(rows)
def test_average_precision_equals_scikit_learn(found):
    labels, scores = columns(found)
    expected = reference.average_precision_score(labels, scores)
    assert average_precision(ClassCounts.from_scores(labels, scores)) == pytest.approx(expected, abs=TOLERANCE)


@given(rows, st.sampled_from([0.05, 0.1, 0.5, 1.0]))
def test_partial_auroc_equals_scikit_learn(found, rate):
    labels, scores = columns(found)
    expected = reference.roc_auc_score(labels, scores, max_fpr=rate)
    assert partial_auroc(rate)(ClassCounts.from_scores(labels, scores)) == pytest.approx(expected, abs=TOLERANCE)


@given(rows)
def test_the_whole_partial_auroc_is_the_auroc(found):
    counts = ClassCounts.from_scores(*columns(found))
    assert partial_auroc(1.0)(counts) == pytest.approx(auroc_from_counts(counts), abs=TOLERANCE)


@given(rows, st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_rates_at_rates_equal_a_search_over_all_thresholds(found, target):
    labels, scores = columns(found)
    counts = ClassCounts.from_scores(labels, scores)
    points = [(np.mean(scores[labels == 1] >= cut), np.mean(scores[labels == 0] < cut)) for cut in [*scores, np.inf]]
    best_sensitivity = max(sensitivity for sensitivity, specificity in points if specificity >= target - 1e-12)
    best_specificity = max(specificity for sensitivity, specificity in points if sensitivity >= target - 1e-12)
    assert sensitivity_at_specificity(target)(counts) == pytest.approx(best_sensitivity, abs=TOLERANCE)
    assert specificity_at_sensitivity(target)(counts) == pytest.approx(best_specificity, abs=TOLERANCE)


@given(rows)
def test_the_curve_equals_scikit_learn(found):
    labels, scores = columns(found)
    curve = precision_recall_curve(ClassCounts.from_scores(labels, scores))
    ppv, sensitivity, _ = reference.precision_recall_curve(labels, scores)
    # scikit-learn adds the point without calls and lists from the lowest threshold up.
    np.testing.assert_allclose(curve.ppv, ppv[:-1][::-1], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(curve.sensitivity, sensitivity[:-1][::-1], rtol=0, atol=TOLERANCE)


def test_a_histogram_with_empty_bins_above_all_lesions_has_no_point_there():
    counts = ClassCounts(scores=np.array([0.0, 0.5, 0.9]), negatives=np.array([3, 1, 0]), positives=np.array([1, 2, 0]))
    assert precision_recall_curve(counts).ppv.tolist() == [2 / 3, 3 / 7]


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.1, float("nan")])
def test_refuses_rates_out_of_bounds(rate):
    with pytest.raises(ValueError, match="max_false_positive_rate"):
        partial_auroc(rate)
