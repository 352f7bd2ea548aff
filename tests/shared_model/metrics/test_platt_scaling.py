"""Platt scaling against the minimum of its likelihood, found by SciPy, and the laws it must keep."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit

from shared_model.metrics.platt_scaling import fit_platt_scaling


def _cohort(seed, num_lesions=80, *, sharpness=3.0):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=num_lesions)
    labels = (generator.random(num_lesions) < expit(logits)).astype(int)
    labels[:2] = (0, 1)
    return labels, expit(sharpness * logits)


def test_equals_the_minimum_of_platt_s_likelihood():
    labels, scores = _cohort(0)
    found = fit_platt_scaling(labels, scores)
    positives, negatives = labels.sum(), (1 - labels).sum()
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def loss(ab):
        fitted = ab[0] * logit(scores) + ab[1]
        return np.sum(np.logaddexp(0, fitted) - targets * fitted)

    expected = minimize(loss, (1.0, 0.0), tol=1e-12).x
    assert (found.scale, found.offset) == pytest.approx(tuple(expected), abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_fitted_probabilities_agree_with_the_targets(seed):
    # At the minimum both derivatives are zero: residuals sum to zero, and are uncorrelated with the logits.
    labels, scores = _cohort(seed)
    found = fit_platt_scaling(labels, scores)
    positives, negatives = labels.sum(), (1 - labels).sum()
    targets = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    residuals = expit(found.scale * logit(scores) + found.offset) - targets
    assert residuals.sum() == pytest.approx(0, abs=1e-2)
    assert residuals @ logit(scores) == pytest.approx(0, abs=1e-2)


def test_scaling_twice_changes_nothing_more():
    labels, scores = _cohort(2, 400)
    first = fit_platt_scaling(labels, scores)
    again = fit_platt_scaling(labels, expit(first.scale * logit(scores) + first.offset))
    assert (again.scale, again.offset) == pytest.approx((1, 0), abs=1e-3)


@settings(max_examples=10)
@given(st.floats(0.2, 1.5), st.floats(-2, 2))
def test_the_result_does_not_depend_on_the_scale_of_the_logits_before(scale, offset):
    labels, scores = _cohort(3)
    before = fit_platt_scaling(labels, scores)
    moved = fit_platt_scaling(labels, expit(scale * logit(scores) + offset))
    assert moved.scale * scale == pytest.approx(before.scale, abs=2e-3)
    assert moved.scale * offset + moved.offset == pytest.approx(before.offset, abs=2e-3)


def test_certain_scores_are_taken_as_almost_certain():
    labels, scores = _cohort(4)
    scores[:4] = (0.0, 1.0, 0.0, 1.0)
    found = fit_platt_scaling(labels, scores)
    assert np.isfinite([found.scale, found.offset]).all()
    nearly = np.clip(scores, 1e-12, 1 - 1e-12)
    assert (found.scale, found.offset) == (
        fit_platt_scaling(labels, nearly).scale,
        fit_platt_scaling(labels, nearly).offset,
    )


def test_scores_that_are_too_sure_are_drawn_to_the_middle():
    labels, scores = _cohort(1, 5000, sharpness=4.0)
    found = fit_platt_scaling(labels, scores)
    assert found.scale == pytest.approx(0.25, abs=0.03)
    assert found.offset == pytest.approx(0, abs=0.1)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_is_finite_and_keeps_the_order_whatever_the_scores(seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 12)
    scores = np.round(generator.random(12), 1)
    found = fit_platt_scaling(labels, scores)
    if found is not None:
        assert found.scale > 0
        assert np.isfinite([found.scale, found.offset]).all()


@pytest.mark.parametrize(
    ("labels", "scores"),
    [([1, 1], [0.2, 0.9]), ([0, 0], [0.2, 0.9]), ([0, 1], [0.9, 0.1]), ([], [])],
    ids=["malignant", "benign", "backwards", "nobody"],
)
def test_is_none_where_there_is_nothing_to_fit(labels, scores):
    assert fit_platt_scaling(np.array(labels, dtype=int), np.array(scores, dtype=float)) is None


def test_lesions_that_are_told_apart_wholly_keep_a_finite_scale():
    found = fit_platt_scaling([0, 0, 1, 1], [0.0, 0.1, 0.9, 1.0])
    assert 0 < found.scale < 10


def test_refuses_scores_that_are_no_probabilities():
    with pytest.raises(ValueError, match=r"Expected scores in \[0, 1\]"):
        fit_platt_scaling([0, 1], [0.5, 1.5])
