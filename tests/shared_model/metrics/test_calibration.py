"""Calibration and net benefit against scikit-learn, loops and hand counts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from shared_model.metrics.calibration import (
    brier_score,
    expected_calibration_error,
    net_benefit,
    net_benefit_of_treating_all,
    reliability_curve,
)
from shared_model.metrics.counts import ClassCounts

TOLERANCE = 1e-9
rows = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 20).map(lambda step: step / 20) | st.floats(0, 1)), max_size=60
).filter(lambda found: {label for label, _ in found} == {0, 1})


def columns(found):
    return np.array([label for label, _ in found]), np.array([score for _, score in found])


@given(rows)
def test_brier_equals_scikit_learn(found):
    labels, scores = columns(found)
    expected = reference.brier_score_loss(labels, scores)
    assert brier_score(ClassCounts.from_scores(labels, scores)) == pytest.approx(expected, abs=TOLERANCE)


@given(rows)
def test_calibration_error_equals_a_loop_over_bins(found):
    labels, scores = columns(found)
    bins = np.array([max(b for b in range(10) if score >= b / 10) for score in scores])
    expected = sum(np.mean(bins == b) * abs(np.mean(scores[bins == b]) - np.mean(labels[bins == b])) for b in set(bins))
    found_error = expected_calibration_error(ClassCounts.from_scores(labels, scores))
    assert found_error == pytest.approx(expected, abs=TOLERANCE)


def test_the_curve_equals_scikit_learn():
    generator = np.random.default_rng(0)
    scores = generator.random(500)
    labels = (generator.random(500) < scores).astype(int)
    curve = reliability_curve(ClassCounts.from_scores(labels, scores))
    observed, predicted = calibration_curve(labels, scores, n_bins=10)
    np.testing.assert_allclose(curve.observed, observed, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(curve.predicted, predicted, rtol=0, atol=TOLERANCE)
    assert curve.num_lesions.sum() == 500


@given(rows, st.sampled_from([0.02, 0.3, 0.5, 0.9]))
def test_net_benefit_equals_the_formula_of_vickers(found, threshold):
    labels, scores = columns(found)
    calls = scores >= threshold
    tp, fp = np.sum(calls & (labels == 1)), np.sum(calls & (labels == 0))
    expected = tp / len(labels) - fp / len(labels) * threshold / (1 - threshold)
    assert net_benefit(threshold)(ClassCounts.from_scores(labels, scores)) == pytest.approx(expected, abs=TOLERANCE)


def test_calling_everything_is_treating_all():
    counts = ClassCounts.from_scores([0, 0, 1], [0.9, 0.95, 0.99])
    for prevalence in (1 / 3, 0.01):
        expected = net_benefit_of_treating_all(0.2, prevalence)
        assert net_benefit(0.2, prevalence)(counts) == pytest.approx(expected, abs=TOLERANCE)


def test_perfect_scores_have_no_error_and_the_most_benefit():
    counts = ClassCounts.from_scores([0, 0, 1, 1], [0.0, 0.0, 1.0, 1.0])
    assert (brier_score(counts), expected_calibration_error(counts)) == (0, 0)
    assert net_benefit(0.3)(counts) == 0.5
    assert net_benefit(0.3, 0.01)(counts) == pytest.approx(0.01)


@pytest.mark.parametrize("figure", [brier_score, expected_calibration_error, reliability_curve])
@pytest.mark.parametrize("scores", [[-0.1, 0.5], [0.5, 1.1]])
def test_refuses_what_is_no_probability(figure, scores):
    with pytest.raises(ValueError, match=r"scores in \[0, 1\]"):
        figure(ClassCounts.from_scores([0, 1], scores))


def test_refuses_impossible_bins_and_thresholds():
    with pytest.raises(ValueError, match="num_bins=0"):
        reliability_curve(ClassCounts.from_scores([0, 1], [0.1, 0.9]), num_bins=0)
    for threshold in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="threshold"):
            net_benefit(threshold)
